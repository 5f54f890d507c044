"""Scrolling through history: the view does not jump, and the page stays bounded."""

import asyncio
import re

import pytest
from playwright.async_api import Page, Route, WebSocketRoute, expect
from tests.browser.people import Site, numbers, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PAGE = 50  # messages shown first
MAX_MESSAGES = 600  # messages in the page in any case, as in timeline.js
MAX_AT_END = 300  # messages in the page while the newest is in view, as in timeline.js
BOTTOM = "const s = document.querySelector('.scroller'); s.scrollHeight - s.scrollTop - s.clientHeight"


async def enter(site: Site, name: str, count: int) -> Page:
    """Open a room that has `count` messages, and return its page once the newest are shown."""
    await site.create_history(
        name, [(count - n, ("dora", "charlie")[n // 3 % 2], f"message {n + 1}") for n in range(count)]
    )
    page = await site.enter("alice", name)
    await expect(page.locator(".log .message")).to_have_count(PAGE)
    return page


async def scroll_up(page: Page) -> None:
    """Scroll to the upper end of the loaded messages, and wait until more have been loaded."""
    first = (await numbers(page))[0]
    await page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    await page.wait_for_function("first => +document.querySelector('.log .message').dataset.seq < first", arg=first)


async def test_scrolling_up_loads_older_messages_without_jumping(site: Site) -> None:
    page = await enter(site, "old", 180)
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


async def test_older_messages_are_not_loaded_before_the_first_page_is_full(site: Site) -> None:
    """The first messages do not fill the window; older ones loaded now would end up in the midst of them."""
    await site.create_history("slow", [(180 - n, "dora", f"message {n + 1}") for n in range(180)])
    page = await site.window("alice")
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


async def test_new_messages_are_counted_without_moving_the_scroll_position(site: Site) -> None:
    page = await enter(site, "above", 100)
    await page.evaluate("document.querySelector('.scroller').scrollTop = 700")
    await expect(page.locator(".pill")).to_have_text("Jump to the newest")
    bob = await site.enter("bob", "above")
    before = await page.evaluate("document.querySelector('.scroller').scrollTop")
    await say(bob, "one")
    await say(bob, "two")
    await expect(page.locator(".pill")).to_have_text("2 new")
    assert await page.evaluate("document.querySelector('.scroller').scrollTop") == before
    await page.locator(".pill").click()
    await expect(page.locator(".pill")).to_be_hidden()
    await expect(page.locator(".log").get_by_text("two", exact=True)).to_be_in_viewport()


async def test_page_stays_bounded_when_scrolling_up_and_down_again(site: Site) -> None:
    page = await enter(site, "bounded", 900)
    while (await numbers(page))[0] > 1:
        await scroll_up(page)
        assert len(await numbers(page)) <= MAX_MESSAGES
    bob = await site.enter("bob", "bounded")
    await say(bob, "the newest")
    await expect(page.locator(".pill")).to_have_text("1 new")
    shown = await numbers(page)
    assert shown == list(range(1, len(shown) + 1))
    # Down again, step by step: messages that were cut off come back without a hole.
    while (await numbers(page))[-1] < 901:
        last = (await numbers(page))[-1]
        await page.evaluate("document.querySelector('.scroller').scrollTop = 1e9")
        await page.wait_for_function(
            "last => +document.querySelector('.log .message:last-child').dataset.seq > last", arg=last
        )
    shown = await numbers(page)
    assert shown == list(range(shown[0], 902))
    assert len(shown) <= MAX_MESSAGES
    await say(bob, "live again")
    await expect(page.locator(".log").get_by_text("live again")).to_be_attached()


async def test_a_flood_keeps_the_newest_visible_and_the_page_bounded(site: Site) -> None:
    page = await site.enter("alice", "flood")
    people = [await site.local.enter("flood") for _ in range(6)]
    for n in range(60):
        for person in people:
            await person.say(f"drop {n}")
    await page.wait_for_function("() => document.querySelector('.log .message:last-child')?.dataset.seq === '360'")
    shown = await numbers(page)
    assert shown == list(range(shown[0], 361))
    assert len(shown) <= MAX_AT_END
    assert await page.evaluate(BOTTOM) < 2
    for person in people:
        await person.connection.close()


async def test_one_click_jumps_from_old_history_to_the_newest(site: Site) -> None:
    page = await enter(site, "far", 900)
    while (await numbers(page))[-1] == 900:
        await scroll_up(page)
    await page.locator(".pill").click()
    await expect(page.locator(".log").get_by_text("message 900", exact=True)).to_be_in_viewport()
    await say(page, "and on")
    await expect(page.locator(".log").get_by_text("and on", exact=True)).to_be_in_viewport()


async def test_missing_too_much_restarts_the_page_at_the_newest(site: Site) -> None:
    page = await enter(site, "gap", 120)
    # A request for older messages is under way: its late answer belongs to the old window and must not be used.
    release = asyncio.Event()

    async def hold(route: Route) -> None:
        await release.wait()
        await route.continue_()

    await page.route("**/messages?**", hold, times=1)
    async with page.expect_request("**/messages?**"):
        await page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    await site.shell(
        "room = Room.objects.get(name='gap')\n"
        "from django.utils import timezone\n"
        "Event.objects.bulk_create(Event(room=room, seq=n, sender='g:x', client_id=f'late-{n}', name='dora',"
        " text=f'message {n}', at=timezone.now()) for n in range(121, 1221))\n"
        "Room.objects.filter(pk=room.pk).update(last_seq=1220)"
    )
    for child in site.local.web:  # they also hold the room's newest messages in memory
        await site.local.kill(child)
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await expect(page.locator(".log").get_by_text("message 1220", exact=True)).to_be_in_viewport()
    shown = await numbers(page)
    assert shown == list(range(shown[0], 1221))
    await page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    release.set()
    await page.wait_for_function("first => +document.querySelector('.log .message').dataset.seq < first", arg=shown[0])
    shown = await numbers(page)
    assert shown == list(range(shown[0], 1221))


async def test_an_empty_room_asks_for_the_first_message(site: Site) -> None:
    page = await site.enter("alice", "empty")
    await expect(page.locator(".top")).to_have_text("No messages yet. Write the first one below.")
    await say(page, "first")
    await expect(page.locator(".top")).to_have_text("This is the beginning of the room.")


async def test_a_failed_history_request_is_shown_and_can_be_retried(site: Site) -> None:
    page = await enter(site, "failing", 120)
    await page.route("**/messages?**", lambda route: route.abort())
    await page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    await expect(page.locator(".top")).to_contain_text("Messages could not be loaded.")
    await page.unroute("**/messages?**")
    await page.locator(".top").get_by_role("button", name="Try again").click()
    await expect(page.locator(".log .message")).to_have_count(100)


async def test_history_requests_wait_for_retry_after(site: Site) -> None:
    page = await site.window("alice")
    await page.clock.install()
    await site.create_history("busy-server", [(400 - n, "dora", f"message {n + 1}") for n in range(900)])
    await page.goto("/chat/room/busy-server/")
    await expect(page.locator(".log .message")).to_have_count(PAGE)
    while (await numbers(page))[-1] == 900:
        await scroll_up(page)
    requests = []

    async def refuse(route: Route) -> None:
        requests.append(route.request.url)
        await route.fulfill(status=503, headers={"Retry-After": "100"}, body="")

    await page.route("**/messages?**", refuse)
    for end, sentence, place in (("1e9", "Newer messages will load in a moment", ".pill"), ("0", "is busy", ".top")):
        await page.evaluate(f"document.querySelector('.scroller').scrollTop = {end}")
        await expect(page.locator(place)).to_contain_text(sentence)
        await page.clock.fast_forward(15_000)
    await page.locator(".top").get_by_role("button", name="Try again").click()
    await expect(page.locator(".top")).to_contain_text("The server is busy. Messages will load in a moment.")
    assert len(requests) == 1
    await page.unroute("**/messages?**")
    async with page.expect_response("**/messages?**"):
        await page.clock.fast_forward(200_000)
    await expect(page.locator(".top")).not_to_contain_text("busy")
