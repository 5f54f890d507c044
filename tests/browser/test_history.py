"""Reading back, without jumps and without a page that grows for ever."""

import asyncio
import re

import pytest
from playwright.async_api import Page, Route, WebSocketRoute, expect
from tests.browser.people import Town, numbers, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PAGE = 50  # messages that are shown first
MOST = 600  # messages in the page, as in timeline.js
KEPT = 300  # while the newest is in sight
BOTTOM = "const s = document.querySelector('.scroller'); s.scrollHeight - s.scrollTop - s.clientHeight"


async def enter(town: Town, name: str, count: int) -> Page:
    """The page of a room in which so much was said, when the newest of it is shown."""
    await town.history(name, [(count - n, ("mara", "joris")[n // 3 % 2], f"message {n + 1}") for n in range(count)])
    page = await town.enter("alice", name)
    await expect(page.locator(".log .message")).to_have_count(PAGE)
    return page


async def scroll_up(page: Page) -> None:
    """To the upper end of what is loaded, and until more has been loaded."""
    first = (await numbers(page))[0]
    await page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    await page.wait_for_function("first => +document.querySelector('.log .message').dataset.seq < first", arg=first)


async def test_older_messages_load_on_scrolling_up_and_nothing_jumps(town: Town) -> None:
    page = await enter(town, "old", 180)
    assert await page.evaluate(BOTTOM) < 2
    anchor = page.locator(".log .message[data-seq='140']")
    await page.evaluate("document.querySelector('.scroller').scrollTop = 300")
    before = await anchor.bounding_box()
    await page.wait_for_function("() => +document.querySelector('.log .message').dataset.seq <= 81")
    after = await anchor.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["y"] - after["y"]) < 2
    for _ in range(2):
        await scroll_up(page)
    assert await numbers(page) == list(range(1, 181))
    await expect(page.locator(".top")).to_have_text("This is the beginning of the room.")


async def test_a_history_that_comes_slowly_is_not_taken_for_all_that_is_in_sight(town: Town) -> None:
    """Its beginning does not fill the window: older messages would be loaded into the midst of it."""
    await town.history("slow", [(180 - n, "mara", f"message {n + 1}") for n in range(180)])
    page = await town.window("alice")
    rest = asyncio.Event()

    async def pass_on(client: WebSocketRoute) -> None:
        server = client.connect_to_server()
        held: list[str | bytes] = []
        messages = 0

        def from_server(frame: str | bytes) -> None:
            nonlocal messages
            messages += '"type":"message"' in str(frame)
            if messages <= 5 or rest.is_set():
                client.send(frame)
            else:
                held.append(frame)

        server.on_message(from_server)
        await rest.wait()
        for frame in held:
            client.send(frame)

    await page.route_web_socket("**/ws/chat/**", pass_on)
    await page.goto("/chat/room/slow/")
    await expect(page.locator(".log .message")).to_have_count(5)
    await page.evaluate("document.querySelector('.scroller').dispatchEvent(new Event('scroll'))")
    rest.set()
    await expect(page.locator(".log .message").last).to_have_text(re.compile("message 180"))
    await expect(page.locator(".log .message")).to_have_count(PAGE)


async def test_who_reads_above_is_not_moved_and_sees_how_much_is_new(town: Town) -> None:
    page = await enter(town, "above", 100)
    await page.evaluate("document.querySelector('.scroller').scrollTop = 700")
    await expect(page.locator(".pill")).to_have_text("Jump to the newest")
    ben = await town.enter("ben", "above")
    before = await page.evaluate("document.querySelector('.scroller').scrollTop")
    await say(ben, "one")
    await say(ben, "two")
    await expect(page.locator(".pill")).to_have_text("2 new")
    assert await page.evaluate("document.querySelector('.scroller').scrollTop") == before
    await page.locator(".pill").click()
    await expect(page.locator(".pill")).to_be_hidden()
    await expect(page.locator(".log").get_by_text("two", exact=True)).to_be_in_viewport()


async def test_the_page_stays_bounded_and_finds_the_newest_again(town: Town) -> None:
    page = await enter(town, "bounded", 900)
    while (await numbers(page))[0] > 1:
        await scroll_up(page)
        assert len(await numbers(page)) <= MOST
    ben = await town.enter("ben", "bounded")
    await say(ben, "the newest")
    await expect(page.locator(".pill")).to_have_text("1 new")
    shown = await numbers(page)
    assert shown == list(range(1, len(shown) + 1))
    # Down again, step by step: what was cut off comes back without a hole.
    while (await numbers(page))[-1] < 901:
        last = (await numbers(page))[-1]
        await page.evaluate("document.querySelector('.scroller').scrollTop = 1e9")
        await page.wait_for_function(
            "last => +document.querySelector('.log .message:last-child').dataset.seq > last", arg=last
        )
    shown = await numbers(page)
    assert shown == list(range(shown[0], 902))
    assert len(shown) <= MOST
    await say(ben, "live again")
    await expect(page.locator(".log").get_by_text("live again")).to_be_attached()


async def test_a_flood_leaves_the_newest_in_sight_and_the_page_bounded(town: Town) -> None:
    page = await town.enter("alice", "flood")
    people = [await town.local.enter("flood") for _ in range(6)]
    for n in range(60):
        for person in people:
            await person.say(f"drop {n}")
    await page.wait_for_function("() => document.querySelector('.log .message:last-child')?.dataset.seq === '360'")
    shown = await numbers(page)
    assert shown == list(range(shown[0], 361))
    assert len(shown) <= KEPT
    assert await page.evaluate(BOTTOM) < 2
    for person in people:
        await person.connection.close()


async def test_the_newest_is_one_click_away_from_far_above(town: Town) -> None:
    page = await enter(town, "far", 900)
    while (await numbers(page))[-1] == 900:
        await scroll_up(page)
    await page.locator(".pill").click()
    await expect(page.locator(".log").get_by_text("message 900", exact=True)).to_be_in_viewport()
    await say(page, "and on")
    await expect(page.locator(".log").get_by_text("and on", exact=True)).to_be_in_viewport()


async def test_too_much_missed_begins_anew_with_the_newest(town: Town) -> None:
    page = await enter(town, "gap", 120)
    # Who had just asked for older messages gets those of the new window: the answer about the old one is late.
    release = asyncio.Event()

    async def hold(route: Route) -> None:
        await release.wait()
        await route.continue_()

    await page.route("**/messages?**", hold, times=1)
    async with page.expect_request("**/messages?**"):
        await page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    await town.shell(
        "room = Room.objects.get(name='gap')\n"
        "from django.utils import timezone\n"
        "Event.objects.bulk_create(Event(room=room, seq=n, sender='g:x', client_id=f'late-{n}', name='mara',"
        " text=f'message {n}', at=timezone.now()) for n in range(121, 1221))\n"
        "Room.objects.filter(pk=room.pk).update(last_seq=1220)"
    )
    for child in town.local.web:  # the room's newest messages are also in their memory
        await town.local.kill(child)
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await expect(page.locator(".log").get_by_text("message 1220", exact=True)).to_be_in_viewport()
    shown = await numbers(page)
    assert shown == list(range(shown[0], 1221))
    await page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    release.set()
    await page.wait_for_function("first => +document.querySelector('.log .message').dataset.seq < first", arg=shown[0])
    shown = await numbers(page)
    assert shown == list(range(shown[0], 1221))


async def test_an_empty_room_says_what_to_do(town: Town) -> None:
    page = await town.enter("alice", "empty")
    await expect(page.locator(".top")).to_have_text("No messages yet. Write the first one below.")
    await say(page, "first")
    await expect(page.locator(".top")).to_have_text("This is the beginning of the room.")


async def test_history_that_cannot_be_loaded_says_so_and_can_be_tried_again(town: Town) -> None:
    page = await enter(town, "failing", 120)
    await page.route("**/messages?**", lambda route: route.abort())
    await page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    await expect(page.locator(".top")).to_contain_text("Older messages could not be loaded.")
    await page.unroute("**/messages?**")
    await page.locator(".top").get_by_role("button", name="Try again").click()
    await expect(page.locator(".log .message")).to_have_count(100)


async def test_history_that_is_refused_is_not_asked_for_before_it_may_be(town: Town) -> None:
    page = await town.window("alice")
    await page.clock.install()
    await town.history("busy-server", [(400 - n, "mara", f"message {n + 1}") for n in range(900)])
    await page.goto("/chat/room/busy-server/")
    await expect(page.locator(".log .message")).to_have_count(PAGE)
    while (await numbers(page))[-1] == 900:
        await scroll_up(page)
    asked = []

    async def refuse(route: Route) -> None:
        asked.append(route.request.url)
        await route.fulfill(status=503, headers={"Retry-After": "100"}, body="")

    await page.route("**/messages?**", refuse)
    for end, sentence, place in (("1e9", "Newer messages will load in a moment", ".pill"), ("0", "is busy", ".top")):
        await page.evaluate(f"document.querySelector('.scroller').scrollTop = {end}")
        await expect(page.locator(place)).to_contain_text(sentence)
        await page.clock.fast_forward(15_000)
    await page.locator(".top").get_by_role("button", name="Try again").click()
    await expect(page.locator(".top")).to_contain_text("The server is busy. Loading older messages is tried again")
    assert len(asked) == 1
    await page.unroute("**/messages?**")
    async with page.expect_response("**/messages?**"):
        await page.clock.fast_forward(200_000)
    await expect(page.locator(".top")).not_to_contain_text("busy")
