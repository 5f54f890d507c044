"""A room's page in each state of its connection, with screenshots for phone and desktop in build/screenshots."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from playwright.async_api import Page, WebSocketRoute, expect
from tests.browser.conftest import SCREENSHOTS
from tests.browser.life import HISTORY
from tests.browser.people import Scheme, Site, connected, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

LOOKS: list[tuple[int, int, Scheme]] = [(1440, 900, "light"), (390, 844, "light"), (390, 844, "dark")]
Visit = Callable[[Page], Awaitable[None]]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def site(open_site: Site) -> AsyncIterator[Site]:
    await open_site.create_history("states", HISTORY, "Northern yard")
    yield open_site
    await open_site.close_windows()


@asynccontextmanager
async def screenshots(site: Site, name: str, visit: Visit) -> AsyncIterator[Page]:
    """Take a screenshot of the page in this state in each look, and yield the last page for further checks."""
    for width, height, scheme in LOOKS:
        page = await site.window("bob", width=width, height=height, scheme=scheme, reduced_motion="reduce")
        await visit(page)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=SCREENSHOTS / f"state-{name}-{width}-{scheme}.png")
        wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{wide} px are cut off"
        if (width, height, scheme) == LOOKS[-1]:
            yield page
        await page.context.close()


async def enter(page: Page) -> None:
    await page.goto("/chat/room/states/")


async def expect_state(page: Page, word: str, notice: str = "") -> None:
    await expect(page.locator(".state-word")).to_contain_text(word)
    if notice:
        await expect(page.locator(".notice")).to_contain_text(notice)
    else:
        await expect(page.locator(".notice")).to_be_hidden()


async def test_connecting(site: Site) -> None:
    async def visit(page: Page) -> None:
        # A server that accepts the connection and sends nothing yet.
        await page.route_web_socket("**/ws/chat/**", lambda socket: None)
        await enter(page)

    async with screenshots(site, "connecting", visit) as page:
        await expect_state(page, "Connecting")
        await expect(page.locator(".top")).to_have_text("Opening the room…")


async def test_connected(site: Site) -> None:
    async def visit(page: Page) -> None:
        await enter(page)
        await connected(page)
        await expect(page.locator(".log .text").last).to_have_text("Will do. Thank you!")

    async with screenshots(site, "connected", visit) as page:
        await expect_state(page, "Connected")


async def test_catching_up(site: Site) -> None:
    """The server has announced how many messages there are, and has not sent them yet."""

    async def visit(page: Page) -> None:
        late = asyncio.Event()

        def between(socket: WebSocketRoute) -> None:
            server = socket.connect_to_server()

            def forward(text: str | bytes) -> None:
                frame = json.loads(text)
                if late.is_set() and frame.get("type") == "welcome":
                    socket.send(json.dumps({**frame, "seq": frame["seq"] + 12}))
                elif not late.is_set() or "seq" not in frame:
                    socket.send(text)

            server.on_message(forward)

        await page.route_web_socket("**/ws/chat/**", between)
        await enter(page)
        await connected(page)
        late.set()
        await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        await expect(page.locator(".state-word")).to_have_text("Catching up (12 missed)")

    async with screenshots(site, "catching-up", visit) as page:
        await expect_state(page, "Catching up")


async def test_waiting_to_reconnect(site: Site) -> None:
    async def visit(page: Page) -> None:
        await enter(page)
        await connected(page)
        await page.context.set_offline(True)
        await expect(page.locator(".notice")).to_be_visible()

    async with screenshots(site, "reconnecting", visit) as page:
        await expect_state(page, "Reconnecting", "Connection lost. Reconnecting automatically.")


async def test_unsent_messages(site: Site) -> None:
    async def visit(page: Page) -> None:
        await enter(page)
        await connected(page)
        await say(page, "Points on track 4 work\a")
        await expect(page.locator(".pending[data-state=failed]")).to_be_visible()
        await page.context.set_offline(True)
        await expect(page.locator(".notice")).to_be_visible()
        await say(page, "Points on track 4 work again, both ends are reached.")
        other = await page.context.new_page()
        await page.bring_to_front()
        await other.close()

    async with screenshots(site, "unsent", visit) as page:
        await expect_state(page, "Reconnecting", "Messages that you send wait here")
        await expect(page.locator(".pending")).to_have_count(2)


@pytest.mark.parametrize(
    ("name", "code", "word", "notice"),
    [
        ("restarting", 1012, "Reconnecting in", "The server is restarting."),
        ("busy", 1013, "Reconnecting in", "The server is busy."),
        ("full", 4000, "Room full", "connects when somebody leaves"),
        ("too-much", 4008, "Reconnecting in", "Too many requests. Reconnecting in a moment."),
        ("signed-out", 4001, "Signed out", "Sign in here or in another tab"),
        ("refused", 4003, "No access", "You don't have access to this room, or it was closed."),
    ],
)
async def test_closed_with_a_reason(site: Site, name: str, code: int, word: str, notice: str) -> None:
    async def visit(page: Page) -> None:
        sockets: list[WebSocketRoute] = []

        async def between(socket: WebSocketRoute) -> None:
            sockets.append(socket)
            if len(sockets) == 1:
                socket.connect_to_server()
            else:  # the state persists, with growing delays
                await socket.close(code=code, reason="")

        await page.route_web_socket("**/ws/chat/**", between)
        await enter(page)
        await connected(page)
        await sockets[0].close(code=code, reason="")
        await expect_state(page, word, notice)

    async with screenshots(site, name, visit) as page:
        await expect_state(page, word, notice)


async def test_removal_and_announcement(site: Site) -> None:
    alice, bob = await site.enter("alice", "states-kinds"), await site.enter("bob", "states-kinds")
    await say(bob, "The wheelchair group from 4709 is at platform 4, Mrs Novak leads it: 0151 2345678.")
    await expect(alice.locator(".log .text")).to_have_count(1)
    await alice.get_by_role("button", name="Send as an announcement").click()
    await say(alice, "Drill at noon: the sirens are a test.")
    await expect(bob.locator(".announcement")).to_have_count(1)
    await say(bob, "Understood.")
    await bob.locator(".message").first.hover()
    await bob.locator(".more").first.click()
    await bob.get_by_role("menuitem", name="Remove").click()
    await bob.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(bob.locator(".log .text").first).to_have_text("Removed by bob")

    async def menu(page: Page) -> None:
        await page.goto("/chat/room/states-kinds/")
        await connected(page)
        row = page.locator(".message", has_text="Understood.")
        await row.hover()
        await row.locator(".more").click()

    async with screenshots(site, "menu", menu) as page:
        await expect(page.get_by_role("menuitem", name="Remove")).to_be_visible()

    async def question(page: Page) -> None:
        await menu(page)
        await page.get_by_role("menuitem", name="Remove").click()

    async with screenshots(site, "remove", question) as page:
        await expect(page.get_by_role("dialog")).to_contain_text("Understood.")
