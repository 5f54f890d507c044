"""Removed messages, announcements, and events of a kind that the page does not know."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, Route, WebSocket, expect
from tests.browser.people import Site, connected, numbers, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def remove(page: Page, text: str) -> None:
    """Remove the message with this text through its menu, with the mouse."""
    row = page.locator(".message", has_text=text)
    await row.hover()
    await row.locator(".more").click()
    await page.get_by_role("menuitem", name="Remove").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()


async def test_a_removed_message_leaves_a_placeholder_on_every_page(site: Site) -> None:
    alice, bob = await site.enter("alice", "removal"), await site.enter("bob", "removal")
    for text in ("one", "a secret", "three"):
        await say(bob, text)
    await expect(alice.locator(".log .text")).to_have_text(["one", "a secret", "three"])
    await remove(bob, "a secret")
    left = ["one", "Removed by bob", "three"]
    for page in (alice, bob):
        await expect(page.locator(".log .text")).to_have_text(left)
        assert await numbers(page) == [1, 2, 3]
    late = await site.enter("charlie", "removal")
    await expect(late.locator(".log .text")).to_have_text(left)
    await bob.reload()
    await expect(bob.locator(".log .text")).to_have_text(left)
    await expect(bob.locator(".message", has_text="Removed by bob").locator(".more")).to_have_count(0)


async def test_a_removal_reaches_pages_that_were_offline(site: Site) -> None:
    alice, bob = await site.enter("alice", "removal-away"), await site.enter("bob", "removal-away")
    await say(bob, "a secret")
    await expect(alice.locator(".log .text")).to_have_text(["a secret"])
    await alice.context.set_offline(True)
    await expect(alice.locator(".state-word")).to_contain_text("Reconnecting")
    await remove(bob, "a secret")
    await expect(bob.locator(".log .text")).to_have_text(["Removed by bob"])
    await expect(alice.locator(".log .text")).to_have_text(["a secret"])
    await alice.context.set_offline(False)
    await expect(alice.locator(".log .text")).to_have_text(["Removed by bob"])


async def test_a_removal_made_offline_is_sent_on_reconnect(site: Site) -> None:
    bob = await site.enter("bob", "removal-waits")
    await say(bob, "a secret")
    await expect(bob.locator(".log .text")).to_have_text(["a secret"])
    await bob.context.set_offline(True)
    await expect(bob.locator(".state-word")).to_contain_text("Reconnecting")
    await remove(bob, "a secret")
    await expect(bob.locator(".message.removing")).to_have_count(1)
    await bob.context.set_offline(False)
    await expect(bob.locator(".log .text")).to_have_text(["Removed by bob"])
    await expect(bob.locator(".message.removing")).to_have_count(0)


async def test_only_administrators_remove_messages_of_others(site: Site) -> None:
    alice, bob = await site.enter("alice", "removal-rights"), await site.enter("bob", "removal-rights")
    await say(alice, "of alice")
    await expect(bob.locator(".message")).to_have_count(1)
    await say(bob, "of bob")
    await expect(bob.locator(".message")).to_have_count(2)
    await expect(bob.locator(".message", has_text="of alice").locator(".more")).to_have_count(0)
    await remove(alice, "of bob")
    await expect(bob.locator(".log .text")).to_have_text(["of alice", "Removed by alice"])


async def test_a_refused_removal_shows_the_reason(site: Site) -> None:
    bob = await site.enter("bob", "removal-refused")
    await say(bob, "of bob")
    await expect(bob.locator(".message")).to_have_count(1)
    await site.shell("Event.objects.filter(room__name='removal-refused').update(sender='u:0')")
    await remove(bob, "of bob")
    failed = bob.locator(".pending[data-state=failed]")
    await expect(failed).to_contain_text("Not removed: ")
    await failed.get_by_role("button", name="Dismiss").click()
    await expect(bob.locator(".pending")).to_have_count(0)
    await expect(bob.locator(".log .text")).to_have_text(["of bob"])


async def test_message_menu_works_by_keyboard_and_passes_axe(site: Site) -> None:
    page = await site.enter("bob", "removal-keys")
    for text in ("one", "two"):
        await say(page, text)
    await expect(page.locator(".message .more")).to_have_count(2)
    await page.focus("#text")
    await page.keyboard.press("Shift+Tab")
    await expect(page.locator(".message", has_text="two").locator(".more")).to_be_focused()
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("menuitem", name="Remove")).to_be_focused()
    await _assert_no_violations(page)
    await page.keyboard.press("Escape")
    await expect(page.locator(".message", has_text="one").locator(".more")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    await _assert_no_violations(page)
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator(".log .text")).to_have_text(["Removed by bob", "two"])
    await _assert_no_violations(page)


async def _assert_no_violations(page: Page) -> None:
    results = await Axe().run(page)
    assert not results.response["violations"], results.generate_report()


async def test_message_menu_works_by_touch(site: Site) -> None:
    page = await site.window("bob", width=390, height=844, has_touch=True, is_mobile=True)
    await page.goto("/chat/room/removal-touch/")
    await connected(page)
    await say(page, "one")
    await page.locator(".message .more").tap()
    await page.get_by_role("menuitem", name="Remove").tap()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").tap()
    await expect(page.locator(".log .text")).to_have_text(["Removed by bob"])


async def test_announcements_are_labelled_and_for_administrators_only(site: Site) -> None:
    alice, bob = await site.enter("alice", "announced"), await site.enter("bob", "announced")
    await expect(bob.locator(".announce")).to_be_hidden()
    await alice.get_by_role("button", name="Send as an announcement").click()
    await say(alice, "Drill at noon.")
    await say(alice, "And lunch after it.")
    await expect(bob.locator(".log .text")).to_have_text(["Drill at noon.", "And lunch after it."])
    await expect(bob.locator(".announcement")).to_have_count(1)
    await expect(bob.locator(".announcement .label")).to_have_text("Announcement")
    await _assert_no_violations(bob)


async def test_events_of_an_unknown_kind_count_in_the_numbering(site: Site) -> None:
    """The event is stored as a newer version of the server would store it."""
    bob = await site.enter("bob", "kinds")
    await say(bob, "one")
    await expect(bob.locator(".log .text")).to_have_text(["one"])
    await site.shell("""
room = Room.objects.get(name='kinds')
fields = dict(sender='g:x', client_id='x', name='x', at=room.changed_at)
Event.objects.create(room=room, seq=2, kind='reaction', data={'to': 1, 'sign': '+1'}, **fields)
Room.objects.filter(pk=room.pk).update(last_seq=2)
""")
    await say(bob, "three")
    await expect(bob.locator(".log .text")).to_have_text(["one", "three"])
    assert await numbers(bob) == [1, 3]
    opened: list[WebSocket] = []
    bob.on("websocket", lambda socket: opened.append(socket))
    await site.shell("""
room = Room.objects.get(name='kinds')
fields = dict(sender='g:x', client_id='y', name='x', at=room.changed_at)
Event.objects.create(room=room, seq=4, kind='reaction', data={'to': 3, 'sign': '+1'}, **fields)
Room.objects.filter(pk=room.pk).update(last_seq=4)
""")
    await bob.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await connected(bob)
    await say(bob, "five")
    await expect(bob.locator(".log .text")).to_have_text(["one", "three", "five"])
    await bob.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await connected(bob)
    assert [parse_qs(urlsplit(socket.url).query)["after"] for socket in opened] == [["3"], ["5"]]
    await expect(bob.locator(".log .text")).to_have_text(["one", "three", "five"])


async def test_a_removal_applies_to_older_messages_still_loading(site: Site) -> None:
    await site.create_history("removal-late", [(200 - n, "dora", f"message {n}") for n in range(1, 121)])
    page = await site.enter("alice", "removal-late")
    await expect(page.locator(".message")).to_have_count(50)
    requested, release = asyncio.Event(), asyncio.Event()

    async def late(route: Route) -> None:
        answer = await route.fetch()
        requested.set()
        await release.wait()
        await route.fulfill(response=answer)

    await page.route("**/messages?**", late)
    await page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    await asyncio.wait_for(requested.wait(), 20)
    async with await site.local.enter("removal-late", additional_headers=site.cookie("alice")) as admin:
        await admin.send({"type": "delete", "seq": 60, "id": "late"})
        await admin.first(type="deletion")
    await say(page, "heard after it")
    await expect(page.locator(".log .text").last).to_have_text("heard after it")
    release.set()
    await expect(page.locator("[data-seq='60'] .text")).to_have_text("Removed by alice")
    await expect(page.locator("[data-seq='61'] .text")).to_have_text("message 61")
