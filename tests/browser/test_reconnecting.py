"""Pages whose connection breaks at any point show every message exactly once after reconnecting."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Page, Route, WebSocketRoute, expect
from tests.browser.people import Site, connected, numbers, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def cut_after(page: Page, seq: int) -> None:
    """End the first connection that delivers this event of the room, right behind the event."""
    cut: list[int] = []

    def between(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        async def forward(text: str | bytes) -> None:
            if cut == [id(socket)]:
                return
            socket.send(text)
            if not cut and json.loads(text).get("seq") == seq and json.loads(text)["type"] != "welcome":
                cut.append(id(socket))
                await socket.close(code=1012, reason="")

        server.on_message(forward)

    await page.route_web_socket("**/ws/chat/**", between)


async def test_an_interrupted_first_history_is_completed(site: Site) -> None:
    await site.create_history("cut", [(1, "bob", f"message {n}") for n in range(1, 501)])
    page = await site.window("alice")
    await cut_after(page, 470)
    await page.goto("/chat/room/cut/")
    await expect(page.locator(".log").get_by_text("message 470", exact=True)).to_be_attached()
    await connected(page)
    await expect(page.locator(".log").get_by_text("message 500", exact=True)).to_be_in_viewport()
    await say(page, "and on")
    await expect(page.locator(".log").get_by_text("and on", exact=True)).to_be_attached()
    shown = await numbers(page)
    assert shown == list(range(shown[0], 502))


Answer = Callable[[str, int], list[dict[str, Any]]]


class ScriptedServer:
    """A server that sends each connection the frames that `answer` returns for its URL and its number."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.urls: list[str] = []
        self.sockets: list[WebSocketRoute] = []
        self.received: list[dict[str, Any]] = []

    async def serve(self, page: Page) -> None:
        def accept(socket: WebSocketRoute) -> None:
            self.urls.append(socket.url)
            self.sockets.append(socket)

            def on_message(text: str | bytes) -> None:
                frame = json.loads(text)
                self.received.append(frame)
                if frame.get("type") == "ping":
                    socket.send('{"type": "pong"}')

            socket.on_message(on_message)
            for frame in self.answer(socket.url, len(self.urls)):
                socket.send(json.dumps(frame))

        await page.route_web_socket("**/ws/chat/**", accept)


def welcome(seq: int, **fields: Any) -> dict[str, Any]:
    limits = {"message": 4000, "rate": 20, "burst": 60}
    defaults = {
        "room": "scripted",
        "title": "",
        "you": "alice",
        "guest": False,
        "may": [],
        "resumed": False,
        "limits": limits,
    }
    return {
        "type": "welcome",
        "seq": seq,
        "protocol": 2,
        "version": "1",
        "epoch": "e1",
        "floor": 1,
        **defaults,
        **fields,
    }


def message(seq: int, text: str) -> dict[str, Any]:
    at = "2026-11-24T08:00:00.000Z"
    return {"type": "message", "seq": seq, "id": f"s-{text}", "user": "bob", "message": text, "at": at}


# Lets the test decide whether the page is visible and focused.
FAKE_FOCUS = """
    const away = () => sessionStorage.getItem("away") === "yes";
    Object.defineProperty(document, "hidden", { get: away });
    document.hasFocus = () => !away();
"""


async def visit(site: Site, room: str, answer: Answer) -> tuple[Page, ScriptedServer]:
    """Return a page that has joined a room of a scripted server, and the server."""
    page = await site.window("alice")
    await page.add_init_script(FAKE_FOCUS)
    script = ScriptedServer(answer)
    await script.serve(page)
    await page.clock.install()
    await page.goto(f"/chat/room/{room}/")
    await connected(page)
    return page, script


async def test_a_new_epoch_replaces_the_timeline(site: Site) -> None:
    def answer(url: str, number: int) -> list[dict[str, Any]]:
        if number == 1:
            return [welcome(2), message(1, "old one"), message(2, "old two")]
        return [welcome(4, epoch="e2"), *(message(seq, f"new {seq}") for seq in (1, 2, 3, 4))]

    page, script = await visit(site, "epochs", answer)
    await expect(page.locator(".log .text")).to_have_text(["old one", "old two"])
    await script.sockets[0].close(code=1012, reason="")
    await expect(page.locator(".log .text")).to_have_text(["new 1", "new 2", "new 3", "new 4"])
    assert script.urls[1].partition("?")[2] == "after=2&epoch=e1"


async def test_numbers_below_the_floor_are_not_loaded_again(site: Site) -> None:
    def answer(url: str, number: int) -> list[dict[str, Any]]:
        gone = {"type": "gap", "from": 3, "to": 5, "gone": True}
        return [welcome(6, floor=2), message(2, "two"), gone, message(6, "six")]

    page, _ = await visit(site, "gone", answer)
    await expect(page.locator(".log .text")).to_have_text(["two", "six"])
    await expect(page.locator(".top")).to_have_text("This is the beginning of the room.")


async def test_older_messages_of_another_epoch_are_discarded(site: Site) -> None:
    page = await site.window("alice")
    await ScriptedServer(lambda url, number: [welcome(60), message(60, "sixty")]).serve(page)

    async def older(route: Route) -> None:
        await route.fulfill(json={"messages": [message(59, "of another room")], "epoch": "e2"})

    await page.route("**/messages?**", older)
    await page.goto("/chat/room/epochs-http/")
    await expect(page.locator(".top")).to_contain_text("Messages could not be loaded.")
    await expect(page.locator(".log .text")).to_have_text(["sixty"])


@pytest.mark.parametrize("noise", [[], [{"type": "later"}, message(9, "too early")]])
async def test_unexpected_frames_are_ignored(site: Site, noise: list[dict[str, Any]]) -> None:
    error = {"error": "Something is down.", "code": "try_later", "retry_after": 1}
    page, script = await visit(
        site, f"noise-{len(noise)}", lambda url, number: [error, *noise, welcome(1), message(1, "hi")]
    )
    await expect(page.locator(".log .text")).to_have_text(["hi"])
    script.sockets[0].send("no JSON")
    script.sockets[0].send(json.dumps(message(2, "and on")))
    await expect(page.locator(".log .text")).to_have_text(["hi", "and on"])


async def open_upgraded(site: Site, room: str) -> tuple[Page, ScriptedServer]:
    """Return a page whose server has been upgraded since it was loaded, and the server."""

    def answer(url: str, number: int) -> list[dict[str, Any]]:
        return [welcome(1, version="1" if number == 1 else "2"), message(1, "hi")]

    page, script = await visit(site, room, answer)
    await page.evaluate("window.before = true")
    await script.sockets[0].close(code=1012, reason="")
    await page.clock.fast_forward(5_000)
    await connected(page)
    return page, script


async def test_a_page_reloads_after_an_upgrade_and_keeps_its_draft(site: Site) -> None:
    page, _ = await open_upgraded(site, "upgrade")
    await page.fill("#text", "half a sen")
    await page.clock.fast_forward(50_000)
    assert await page.evaluate("window.before"), "not while somebody writes"
    async with page.expect_event("load"):
        await page.clock.fast_forward(130_000)
    await connected(page)
    await expect(page.locator("#text")).to_have_value("half a sen")
    await page.evaluate("window.before = true")
    await page.clock.fast_forward(130_000)
    assert await page.evaluate("window.before"), "once for each change"


async def test_a_hidden_page_keeps_its_unread_count_across_a_reload(site: Site) -> None:
    page, script = await open_upgraded(site, "upgrade-hidden")
    await page.evaluate("sessionStorage.setItem('away', 'yes')")
    await page.press("#text", "Shift")
    script.sockets[-1].send(json.dumps(message(2, "unseen")))
    await expect(page).to_have_title(re.compile(r"^\(1\) "))
    async with page.expect_event("load"):
        await page.clock.fast_forward(61_000)
        await page.clock.fast_forward(2_000)
    await connected(page)
    await expect(page).to_have_title(re.compile(r"^\(1\) "))


async def test_a_page_with_unsent_messages_does_not_reload(site: Site) -> None:
    page, script = await open_upgraded(site, "upgrade-unsent")
    await say(page, "unsent")
    await expect(page.locator(".pending")).to_have_count(1)
    await page.clock.fast_forward(200_000)
    await page.clock.fast_forward(5_000)
    assert await page.evaluate("window.before")
    (sent,) = [frame for frame in script.received if frame.get("message") == "unsent"]
    stored = {**message(2, "unsent"), "id": sent["id"], "user": "alice"}
    script.sockets[-1].send(json.dumps(stored))
    await expect(page.locator(".pending")).to_have_count(0)
    async with page.expect_event("load"):
        await page.clock.fast_forward(5_000)


async def test_a_page_does_not_reload_while_the_server_returns_errors(site: Site) -> None:
    page, _ = await open_upgraded(site, "upgrade-refused")
    refused = True

    async def answer(route: Route) -> None:
        if route.request.method == "HEAD" and refused:
            await route.fulfill(status=503)
        else:
            await route.continue_()

    await page.route("**/chat/room/upgrade-refused/", answer)
    async with page.expect_request(lambda request: request.method == "HEAD"):
        await page.clock.fast_forward(130_000)
    assert await page.evaluate("window.before")
    refused = False
    async with page.expect_event("load"):
        await page.clock.fast_forward(31_000)


async def test_a_new_epoch_resets_the_read_position(site: Site) -> None:
    page = await site.window("alice")
    epoch = "e1"

    async def listed(route: Route) -> None:
        rooms = [{"name": "restored", "title": "", "url": "/chat/room/restored/", "members_only": False}]
        rooms[0] |= {"seq": 7 if epoch == "e1" else 3, "epoch": epoch, "changed_at": "2026-11-24T08:00:00.000Z"}
        await route.fulfill(json={"rooms": rooms})

    await page.route("**/chat/api/rooms", listed)
    await page.goto("/chat/")
    badge = page.locator("[data-room=restored] .unread")
    await expect(badge).to_be_hidden()
    epoch = "e2"
    await page.reload()
    await expect(badge).to_have_text("3")
