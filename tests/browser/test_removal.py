"""Messages that are removed, announcements, and kinds of events that the page does not know."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, Route, WebSocket, expect
from tests.browser.people import Town, connected, numbers, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def remove(page: Page, text: str) -> None:
    """As a person with a mouse does."""
    row = page.locator(".message", has_text=text)
    await row.hover()
    await row.locator(".more").click()
    await page.get_by_role("menuitem", name="Remove").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()


async def test_a_removed_message_is_gone_from_every_page_and_keeps_its_place(town: Town) -> None:
    alice, ben = await town.enter("alice", "removal"), await town.enter("ben", "removal")
    for text in ("one", "a secret", "three"):
        await say(ben, text)
    await expect(alice.locator(".log .text")).to_have_text(["one", "a secret", "three"])
    await remove(ben, "a secret")
    left = ["one", "Removed by ben", "three"]
    for page in (alice, ben):
        await expect(page.locator(".log .text")).to_have_text(left)
        assert await numbers(page) == [1, 2, 3]
    late = await town.enter("joris", "removal")
    await expect(late.locator(".log .text")).to_have_text(left)
    await ben.reload()
    await expect(ben.locator(".log .text")).to_have_text(left)
    await expect(ben.locator(".message", has_text="Removed by ben").locator(".more")).to_have_count(0)


async def test_who_was_away_when_it_was_removed_does_not_keep_it(town: Town) -> None:
    alice, ben = await town.enter("alice", "removal-away"), await town.enter("ben", "removal-away")
    await say(ben, "a secret")
    await expect(alice.locator(".log .text")).to_have_text(["a secret"])
    await alice.context.set_offline(True)
    await expect(alice.locator(".state-word")).to_contain_text("Reconnecting")
    await remove(ben, "a secret")
    await expect(ben.locator(".log .text")).to_have_text(["Removed by ben"])
    await expect(alice.locator(".log .text")).to_have_text(["a secret"])
    await alice.context.set_offline(False)
    await expect(alice.locator(".log .text")).to_have_text(["Removed by ben"])


async def test_a_removal_waits_for_the_connection_like_a_message(town: Town) -> None:
    ben = await town.enter("ben", "removal-waits")
    await say(ben, "a secret")
    await expect(ben.locator(".log .text")).to_have_text(["a secret"])
    await ben.context.set_offline(True)
    await expect(ben.locator(".state-word")).to_contain_text("Reconnecting")
    await remove(ben, "a secret")
    await expect(ben.locator(".message.removing")).to_have_count(1)
    await ben.context.set_offline(False)
    await expect(ben.locator(".log .text")).to_have_text(["Removed by ben"])
    await expect(ben.locator(".message.removing")).to_have_count(0)


async def test_what_others_said_is_removed_by_administrators_only(town: Town) -> None:
    alice, ben = await town.enter("alice", "removal-rights"), await town.enter("ben", "removal-rights")
    await say(alice, "of alice")
    await expect(ben.locator(".message")).to_have_count(1)
    await say(ben, "of ben")
    await expect(ben.locator(".message")).to_have_count(2)
    await expect(ben.locator(".message", has_text="of alice").locator(".more")).to_have_count(0)
    await remove(alice, "of ben")
    await expect(ben.locator(".log .text")).to_have_text(["of alice", "Removed by alice"])


async def test_a_removal_that_is_refused_says_why(town: Town) -> None:
    ben = await town.enter("ben", "removal-refused")
    await say(ben, "of ben")
    await expect(ben.locator(".message")).to_have_count(1)
    await town.shell("Event.objects.filter(room__name='removal-refused').update(sender='u:0')")
    await remove(ben, "of ben")
    failed = ben.locator(".pending[data-state=failed]")
    await expect(failed).to_contain_text("Not removed: ")
    await failed.get_by_role("button", name="Dismiss").click()
    await expect(ben.locator(".pending")).to_have_count(0)
    await expect(ben.locator(".log .text")).to_have_text(["of ben"])


async def test_the_menu_is_reached_by_keyboard_and_axe_finds_nothing(town: Town) -> None:
    page = await town.enter("ben", "removal-keys")
    for text in ("one", "two"):
        await say(page, text)
    await expect(page.locator(".message .more")).to_have_count(2)
    await page.focus("#text")
    await page.keyboard.press("Shift+Tab")
    await expect(page.locator(".message", has_text="two").locator(".more")).to_be_focused()
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("menuitem", name="Remove")).to_be_focused()
    await _axe(page)
    await page.keyboard.press("Escape")
    await expect(page.locator(".message", has_text="one").locator(".more")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    await _axe(page)
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator(".log .text")).to_have_text(["Removed by ben", "two"])
    await _axe(page)


async def _axe(page: Page) -> None:
    results = await Axe().run(page)
    assert not results.response["violations"], results.generate_report()


async def test_the_menu_is_reached_by_touch(town: Town) -> None:
    page = await town.window("ben", width=390, height=844, has_touch=True, is_mobile=True)
    await page.goto("/chat/room/removal-touch/")
    await connected(page)
    await say(page, "one")
    await page.locator(".message .more").tap()
    await page.get_by_role("menuitem", name="Remove").tap()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").tap()
    await expect(page.locator(".log .text")).to_have_text(["Removed by ben"])


async def test_an_announcement_stands_out_and_is_for_administrators(town: Town) -> None:
    alice, ben = await town.enter("alice", "announced"), await town.enter("ben", "announced")
    await expect(ben.locator(".announce")).to_be_hidden()
    await alice.get_by_role("button", name="Send as an announcement").click()
    await say(alice, "Drill at noon.")
    await say(alice, "And lunch after it.")
    await expect(ben.locator(".log .text")).to_have_text(["Drill at noon.", "And lunch after it."])
    await expect(ben.locator(".announcement")).to_have_count(1)
    await expect(ben.locator(".announcement .label")).to_have_text("Announcement")
    await _axe(ben)


async def test_a_kind_that_the_page_does_not_know_keeps_the_numbering_right(town: Town) -> None:
    """As a newer version of the server would store it."""
    ben = await town.enter("ben", "kinds")
    await say(ben, "one")
    await expect(ben.locator(".log .text")).to_have_text(["one"])
    await town.shell("""
room = Room.objects.get(name='kinds')
fields = dict(sender='g:x', client_id='x', name='x', at=room.changed_at)
Event.objects.create(room=room, seq=2, kind='reaction', data={'to': 1, 'sign': '+1'}, **fields)
Room.objects.filter(pk=room.pk).update(last_seq=2)
""")
    await say(ben, "three")
    await expect(ben.locator(".log .text")).to_have_text(["one", "three"])
    assert await numbers(ben) == [1, 3]
    asked: list[WebSocket] = []
    ben.on("websocket", lambda socket: asked.append(socket))
    await town.shell("""
room = Room.objects.get(name='kinds')
fields = dict(sender='g:x', client_id='y', name='x', at=room.changed_at)
Event.objects.create(room=room, seq=4, kind='reaction', data={'to': 3, 'sign': '+1'}, **fields)
Room.objects.filter(pk=room.pk).update(last_seq=4)
""")
    await ben.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await connected(ben)
    await say(ben, "five")
    await expect(ben.locator(".log .text")).to_have_text(["one", "three", "five"])
    await ben.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await connected(ben)
    assert [parse_qs(urlsplit(socket.url).query)["after"] for socket in asked] == [["3"], ["5"]]
    await expect(ben.locator(".log .text")).to_have_text(["one", "three", "five"])


async def test_what_is_removed_while_older_messages_are_on_their_way_is_not_shown(town: Town) -> None:
    await town.history("removal-late", [(200 - n, "mara", f"message {n}") for n in range(1, 121)])
    page = await town.enter("alice", "removal-late")
    await expect(page.locator(".message")).to_have_count(50)
    asked, release = asyncio.Event(), asyncio.Event()

    async def late(route: Route) -> None:
        answer = await route.fetch()
        asked.set()
        await release.wait()
        await route.fulfill(response=answer)

    await page.route("**/messages?**", late)
    await page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    await asyncio.wait_for(asked.wait(), 20)
    async with await town.local.enter("removal-late", additional_headers=town.cookie("alice")) as chief:
        await chief.send({"type": "delete", "seq": 60, "id": "late"})
        await chief.first(type="deletion")
    await say(page, "heard after it")
    await expect(page.locator(".log .text").last).to_have_text("heard after it")
    release.set()
    await expect(page.locator("[data-seq='60'] .text")).to_have_text("Removed by alice")
    await expect(page.locator("[data-seq='61'] .text")).to_have_text("message 61")
