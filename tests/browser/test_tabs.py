"""Several tabs of one person, frozen tabs, and the delays of reconnecting."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from playwright.async_api import Page, WebSocketRoute, expect
from tests.browser.people import Site, connected, numbers, say, sign_out, texts

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def open_second_tab(page: Page) -> Page:
    """Open another tab on the same room."""
    other = await page.context.new_page()
    await other.goto(page.url)
    await connected(other)
    return other


async def disconnected(page: Page) -> None:
    await expect(page.locator(".state-word")).to_contain_text("Reconnecting")


async def test_pending_messages_are_shown_in_all_tabs_and_sent_once(site: Site) -> None:
    first = await site.enter("alice", "tabs")
    other = await open_second_tab(first)
    await first.context.set_offline(True)
    await disconnected(first)
    await say(first, "from the first")
    await say(other, "from the other")
    await expect(other.locator(".pending")).to_have_count(2)
    row = other.locator(".pending", has_text="from the first")
    await expect(row.locator(".pending-words")).to_have_text("Waiting in another tab")
    await first.context.set_offline(False)
    for page in (first, other):
        await expect(page.locator(".pending")).to_have_count(0)
        await expect(page.locator(".log .text")).to_have_count(2)
        assert await numbers(page) == [1, 2]


async def test_another_tab_sends_the_messages_of_a_closed_tab(site: Site) -> None:
    first = await site.enter("alice", "tabs-closed")
    other = await open_second_tab(first)
    await first.context.set_offline(True)
    await disconnected(first)
    for text in ("one", "two"):
        await say(first, text)
    await first.close()
    await other.context.set_offline(False)
    await expect(other.locator(".log .text")).to_have_text(["one", "two"])
    await expect(other.locator(".pending")).to_have_count(0)


async def test_reopening_a_room_sends_the_messages_of_the_last_tab(site: Site) -> None:
    first = await site.enter("alice", "tabs-last")
    await first.context.set_offline(True)
    await disconnected(first)
    await say(first, "later")
    context = first.context
    await first.close()
    await context.set_offline(False)
    again = await context.new_page()
    await again.goto("/chat/room/tabs-last/")
    await expect(again.locator(".log .text")).to_have_text(["later"])
    await expect(again.locator(".pending")).to_have_count(0)


async def test_another_tab_sends_the_messages_of_a_tab_that_changed_room(site: Site) -> None:
    first = await site.enter("alice", "tabs-here")
    async with refuse_connections(first):
        await first.reload()
        await disconnected(first)
        await say(first, "said here")
        await first.goto("/chat/room/tabs-there/")
    other = await first.context.new_page()
    await other.goto("/chat/room/tabs-here/")
    await expect(other.locator(".log .text")).to_have_text(["said here"])
    await expect(other.locator(".pending")).to_have_count(0)
    await first.goto("/chat/room/tabs-here/")
    await expect(first.locator(".log .text")).to_have_text(["said here"])
    await expect(first.locator(".pending")).to_have_count(0)


async def test_unsent_messages_are_not_sent_by_another_user(site: Site) -> None:
    page = await site.enter("alice", "tabs-person")
    await page.context.set_offline(True)
    await disconnected(page)
    await say(page, "only alice's")
    context = page.context
    await page.close()
    await context.set_offline(False)
    await context.clear_cookies()
    bob = await context.new_page()
    await site.sign_in(bob, "bob")
    await bob.goto("/chat/room/tabs-person/")
    await connected(bob)
    await say(bob, "bob's")
    await expect(bob.locator(".log .text")).to_have_text(["bob's"])
    await expect(bob.locator(".pending")).to_have_count(0)


@contextlib.asynccontextmanager
async def refuse_connections(page: Page) -> AsyncIterator[None]:
    """Close the page's sockets with 1013 when they open, as when the server is busy, until the context ends."""
    closed = True

    async def answer(socket: WebSocketRoute) -> None:
        if closed:
            await socket.close(code=1013)
        else:
            socket.connect_to_server()

    await page.route_web_socket("**/ws/chat/**", answer)
    yield
    closed = False


async def test_open_tabs_do_not_send_as_the_next_user_who_signs_in(strict_site: Site) -> None:
    """An open tab reconnects by itself with the session of the user who signed in in another tab."""
    await strict_site.add_users("tess", "joost")
    await strict_site.shell("Room.objects.get_or_create(name='counter')")
    first = await strict_site.enter("tess", "counter")
    connected_tab = await open_second_tab(first)
    refused_tab = await first.context.new_page()
    async with refuse_connections(refused_tab):
        await refused_tab.goto(first.url)
        await disconnected(refused_tab)
        await say(refused_tab, "only tess's, too")
        await sign_out(first)
        await expect(connected_tab.locator(".state-word")).to_have_text("Signed out")
        await say(connected_tab, "only tess's")
        await expect(connected_tab.locator(".pending", has_text="too")).to_have_count(1)
        await expect(refused_tab.locator(".pending")).to_have_count(2)
        await strict_site.sign_in(first, "joost")
        async with connected_tab.expect_event("load"):
            await first.goto("/chat/room/counter/")
    await connected(connected_tab)
    await expect(refused_tab.locator(".state-word")).to_have_text("Signed out")
    await say(first, "joost's")
    for page in (first, connected_tab):
        await expect(page.locator(".log .text")).to_have_text(["joost's"])
        await expect(page.locator(".pending")).to_have_count(0)
    await expect(refused_tab.locator(".log .text")).to_have_count(0)
    await sign_out(first)
    await strict_site.sign_in(first, "tess")
    await first.goto("/chat/room/counter/")
    await expect(first.locator(".log .text")).to_have_count(3)
    assert set(await texts(first)) == {"joost's", "only tess's", "only tess's, too"}
    strict_site.forget("tess")
    strict_site.forget("joost")


async def test_messages_written_before_the_welcome_survive_a_reload(site: Site) -> None:
    page = await site.window("alice")
    async with refuse_connections(page):
        await page.goto("/chat/room/tabs-refused/")
        await disconnected(page)
        await say(page, "written before")
        await expect(page.locator(".pending")).to_have_count(1)
        page.on("dialog", lambda dialog: dialog.accept())
        await page.reload()
        await expect(page.locator(".pending .text")).to_have_text("written before")
    await connected(page)
    await expect(page.locator(".log .text")).to_have_text(["written before"])


async def test_drafts_are_shared_between_tabs(site: Site) -> None:
    first = await site.enter("alice", "tabs-draft")
    other = await open_second_tab(first)
    await other.evaluate("document.hasFocus = () => false")
    await first.fill("#text", "half a sen")
    await expect(other.locator("#text")).to_have_value("half a sen")
    await say(first, "half a sentence")
    await expect(other.locator("#text")).to_have_value("")
    # A focused text field is not changed while its user writes.
    await first.evaluate("document.hasFocus = () => true")
    await first.fill("#text", "mine")
    await other.fill("#text", "other")
    await expect(first.locator("#text")).to_have_value("mine")


async def test_signing_out_and_in_reaches_every_tab(strict_site: Site) -> None:
    await strict_site.add_users("tabea")
    await strict_site.shell("Room.objects.get_or_create(name='office')")
    first = await strict_site.enter("tabea", "office")
    other = await open_second_tab(first)
    await sign_out(first)
    await expect(other.locator(".state-word")).to_have_text("Signed out")
    await strict_site.sign_in(first, "tabea")
    await first.goto("/chat/room/office/")
    await connected(first)
    await connected(other)
    strict_site.forget("tabea")


@pytest.mark.parametrize("missed", [3, 1200])
async def test_a_frozen_tab_catches_up_when_resumed(site: Site, missed: int) -> None:
    """As after hours of sleep: timers stood still, the connection is gone, and messages were missed."""
    room = f"sleep-{missed}"
    page = await site.enter("bob", room)
    await say(page, "before")
    await expect(page.locator(".log .text")).to_have_text(["before"])
    session = await page.context.new_cdp_session(page)
    await session.send("Page.setWebLifecycleState", {"state": "frozen"})
    for child in site.local.web:
        await site.local.kill(child)
    await site.shell(f"""
room = Room.objects.get(name={room!r})
fields = dict(room=room, sender='g:x', name='dora', at=room.changed_at)
numbers = range(2, {missed + 2})
Event.objects.bulk_create(Event(seq=n, client_id=str(n), text=f'missed {{n}}', **fields) for n in numbers)
Room.objects.filter(pk=room.pk).update(last_seq={missed + 1})
""")
    await session.send("Page.setWebLifecycleState", {"state": "active"})
    await connected(page)
    await expect(page.locator(".log .text").last).to_have_text(f"missed {missed + 1}")
    shown = await numbers(page)
    assert shown == list(range(shown[0], missed + 2))
    await say(page, "after")
    await expect(page.locator(".log .text").last).to_have_text("after")


async def test_reconnect_delays_grow_and_are_randomised(site: Site) -> None:
    page = await site.window("bob")
    await page.goto("/chat/room/delays/")
    await connected(page)

    async def delays(code: int) -> Callable[[int], list[float]]:
        found = await page.evaluate(
            """async ([address, code]) => {
                const { delay } = await import(address);
                return [0, 1, 2, 10].map((attempt) => [0, 1].map((random) => delay(code, attempt, random)));
            }""",
            [await _module(page, "connection.js"), code],
        )
        return lambda attempt: found[attempt]

    lost, restart, later, full = await asyncio.gather(*(delays(code) for code in (1006, 1012, 1013, 4000)))
    assert [lost(n) for n in range(4)] == [[0.25, 0.75], [0.5, 1.5], [1, 3], [4, 12]]
    assert restart(0) == [0.2, 2.5]
    assert [later(n) for n in range(4)] == [[1.5, 4.5], [3, 9], [4, 12], [4, 12]]
    assert full(0) == full(3) == [10, 20]


async def _module(page: Page, name: str) -> str:
    """Return the URL of a module, as the page loaded it."""
    return await page.evaluate(
        "name => performance.getEntriesByType('resource').find(({ name: url }) => url.endsWith(name)).name", name
    )
