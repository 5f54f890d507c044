"""Several tabs of one person, and a tab that was asleep."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from playwright.async_api import Page, WebSocketRoute, expect
from tests.browser.people import Town, connected, numbers, say, sign_out, texts

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def second(page: Page) -> Page:
    """Another tab on the same room."""
    other = await page.context.new_page()
    await other.goto(page.url)
    await connected(other)
    return other


async def away(page: Page) -> None:
    await expect(page.locator(".state-word")).to_contain_text("Reconnecting")


async def test_what_waits_in_one_tab_is_seen_in_the_other_and_arrives_once(town: Town) -> None:
    first = await town.enter("alice", "tabs")
    other = await second(first)
    await first.context.set_offline(True)
    await away(first)
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


async def test_what_a_closed_tab_left_behind_is_sent_by_another(town: Town) -> None:
    first = await town.enter("alice", "tabs-closed")
    other = await second(first)
    await first.context.set_offline(True)
    await away(first)
    for text in ("one", "two"):
        await say(first, text)
    await first.close()
    await other.context.set_offline(False)
    await expect(other.locator(".log .text")).to_have_text(["one", "two"])
    await expect(other.locator(".pending")).to_have_count(0)


async def test_what_the_last_tab_left_behind_is_sent_when_the_room_is_opened_again(town: Town) -> None:
    first = await town.enter("alice", "tabs-last")
    await first.context.set_offline(True)
    await away(first)
    await say(first, "later")
    context = first.context
    await first.close()
    await context.set_offline(False)
    again = await context.new_page()
    await again.goto("/chat/room/tabs-last/")
    await expect(again.locator(".log .text")).to_have_text(["later"])
    await expect(again.locator(".pending")).to_have_count(0)


async def test_what_a_tab_left_behind_that_went_to_another_room_is_sent_by_another_tab(town: Town) -> None:
    first = await town.enter("alice", "tabs-here")
    async with refused(first):
        await first.reload()
        await away(first)
        await say(first, "said here")
        await first.goto("/chat/room/tabs-there/")
    other = await first.context.new_page()
    await other.goto("/chat/room/tabs-here/")
    await expect(other.locator(".log .text")).to_have_text(["said here"])
    await expect(other.locator(".pending")).to_have_count(0)
    await first.goto("/chat/room/tabs-here/")
    await expect(first.locator(".log .text")).to_have_text(["said here"])
    await expect(first.locator(".pending")).to_have_count(0)


async def test_nobody_sends_what_somebody_else_left_behind(town: Town) -> None:
    page = await town.enter("alice", "tabs-person")
    await page.context.set_offline(True)
    await away(page)
    await say(page, "only alice's")
    context = page.context
    await page.close()
    await context.set_offline(False)
    await context.clear_cookies()
    ben = await context.new_page()
    await town.sign_in(ben, "ben")
    await ben.goto("/chat/room/tabs-person/")
    await connected(ben)
    await say(ben, "ben's")
    await expect(ben.locator(".log .text")).to_have_text(["ben's"])
    await expect(ben.locator(".pending")).to_have_count(0)


@contextlib.asynccontextmanager
async def refused(page: Page) -> AsyncIterator[None]:
    """The page's socket is not let in, as when the room is full."""
    closed = True

    async def answer(socket: WebSocketRoute) -> None:
        if closed:
            await socket.close(code=1013)
        else:
            socket.connect_to_server()

    await page.route_web_socket("**/ws/chat/**", answer)
    yield
    closed = False


async def test_what_somebody_left_unsent_is_not_sent_by_who_signs_in_next(strict_town: Town) -> None:
    """An open tab comes back by itself with the session of whoever signed in in another one."""
    await strict_town.settle("tess", "joost")
    await strict_town.shell("Room.objects.get_or_create(name='counter')")
    first = await strict_town.enter("tess", "counter")
    left = await second(first)
    never = await first.context.new_page()
    async with refused(never):
        await never.goto(first.url)
        await away(never)
        await say(never, "only tess's, too")
        await sign_out(first)
        await expect(left.locator(".state-word")).to_have_text("Signed out")
        await say(left, "only tess's")
        await expect(left.locator(".pending", has_text="too")).to_have_count(1)
        await expect(never.locator(".pending")).to_have_count(2)
        await strict_town.sign_in(first, "joost")
        async with left.expect_event("load"):
            await first.goto("/chat/room/counter/")
    await connected(left)
    await expect(never.locator(".state-word")).to_have_text("Signed out")
    await say(first, "joost's")
    for page in (first, left):
        await expect(page.locator(".log .text")).to_have_text(["joost's"])
        await expect(page.locator(".pending")).to_have_count(0)
    await expect(never.locator(".log .text")).to_have_count(0)
    await sign_out(first)
    await strict_town.sign_in(first, "tess")
    await first.goto("/chat/room/counter/")
    await expect(first.locator(".log .text")).to_have_count(3)
    assert set(await texts(first)) == {"joost's", "only tess's", "only tess's, too"}
    strict_town.forget("tess")
    strict_town.forget("joost")


async def test_what_is_written_before_the_first_welcome_survives_a_reload(town: Town) -> None:
    page = await town.window("alice")
    async with refused(page):
        await page.goto("/chat/room/tabs-refused/")
        await away(page)
        await say(page, "written before")
        await expect(page.locator(".pending")).to_have_count(1)
        page.on("dialog", lambda dialog: dialog.accept())
        await page.reload()
        await expect(page.locator(".pending .text")).to_have_text("written before")
    await connected(page)
    await expect(page.locator(".log .text")).to_have_text(["written before"])


async def test_a_draft_is_the_same_in_both_tabs(town: Town) -> None:
    first = await town.enter("alice", "tabs-draft")
    other = await second(first)
    await other.evaluate("document.hasFocus = () => false")
    await first.fill("#text", "half a sen")
    await expect(other.locator("#text")).to_have_value("half a sen")
    await say(first, "half a sentence")
    await expect(other.locator("#text")).to_have_value("")
    # Where somebody writes, nothing is changed under their hands.
    await first.evaluate("document.hasFocus = () => true")
    await first.fill("#text", "mine")
    await other.fill("#text", "other")
    await expect(first.locator("#text")).to_have_value("mine")


async def test_signing_out_and_in_is_seen_in_every_tab(strict_town: Town) -> None:
    await strict_town.settle("tabea")
    await strict_town.shell("Room.objects.get_or_create(name='office')")
    first = await strict_town.enter("tabea", "office")
    other = await second(first)
    await sign_out(first)
    await expect(other.locator(".state-word")).to_have_text("Signed out")
    await strict_town.sign_in(first, "tabea")
    await first.goto("/chat/room/office/")
    await connected(first)
    await connected(other)
    strict_town.forget("tabea")


@pytest.mark.parametrize("missed", [3, 1200])
async def test_a_tab_that_slept_catches_up_when_it_wakes(town: Town, missed: int) -> None:
    """As after hours: timers stood still, the connection is gone, and more or less was said meanwhile."""
    room = f"sleep-{missed}"
    page = await town.enter("ben", room)
    await say(page, "before")
    await expect(page.locator(".log .text")).to_have_text(["before"])
    session = await page.context.new_cdp_session(page)
    await session.send("Page.setWebLifecycleState", {"state": "frozen"})
    for child in town.local.web:
        await town.local.kill(child)
    await town.shell(f"""
room = Room.objects.get(name={room!r})
fields = dict(room=room, sender='g:x', name='mara', at=room.changed_at)
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


async def test_delays_grow_and_are_spread(town: Town) -> None:
    page = await town.window("ben")
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
    """Its address, as the page loaded it."""
    return await page.evaluate(
        "name => performance.getEntriesByType('resource').find(({ name: url }) => url.endsWith(name)).name", name
    )
