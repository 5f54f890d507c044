"""The list of rooms: its order, its unread counts, and its updates."""

import pytest
from playwright.async_api import Page, Route, expect
from tests.browser.people import Site, connected, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def return_to_tab(page: Page) -> None:
    """Make the tab visible again, which requests the list at once."""
    async with page.expect_response("**/chat/api/rooms"):
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


async def test_list_shows_unread_counts_and_is_sorted_by_activity(site: Site) -> None:
    await site.shell("""
alice = User.objects.get(username='alice')
for name in ('list-a', 'list-b', 'list-c'):
    Room.objects.create(name=name).members.add(alice)
""")
    alice = await site.enter("alice", "list-a")
    overview = await alice.context.new_page()
    await overview.goto("/chat/")
    badges = [page.locator("[data-room=list-b] .unread") for page in (alice, overview)]
    for badge in badges:
        await expect(badge).to_be_hidden()
    bob = await site.enter("bob", "list-b")
    for text in ("one", "two", "three"):
        await say(bob, text)
    await expect(bob.locator(".log .text")).to_have_count(3)
    for page, badge in zip((alice, overview), badges, strict=True):
        await return_to_tab(page)
        await expect(badge).to_have_text("3")
    await expect(alice.locator("[data-room]").first).to_have_attribute("data-room", "list-b")
    # A room read in one tab counts as read in all.
    await overview.get_by_role("link", name="list-b").click()
    await connected(overview)
    await expect(overview.locator(".log .text")).to_have_count(3)
    await expect(badges[0]).to_be_hidden()
    await expect(alice.locator("[data-room=list-a] .unread")).to_be_hidden()


async def test_list_adds_and_removes_rooms_without_a_reload(site: Site) -> None:
    await site.shell("Room.objects.create(name='list-goes')")
    alice = await site.enter("alice", "list-stays")
    await expect(alice.locator("[data-room=list-goes]")).to_have_count(1)
    await site.shell("""
new = Room.objects.create(name='list-new', title='<b>New</b>', members_only=True)
new.members.add(User.objects.get(username='alice'))
Room.objects.filter(name='list-goes').update(closed=True)
Room.objects.create(name='list-not-hers', members_only=True)
""")
    await return_to_tab(alice)
    await expect(alice.locator("[data-room=list-new] a")).to_have_attribute("href", "/chat/room/list-new/")
    await expect(alice.locator("[data-room=list-new] [dir]")).to_have_text("<b>New</b>")
    await expect(alice.locator("[data-room=list-goes]")).to_have_count(0)
    await expect(alice.locator("[data-room=list-not-hers]")).to_have_count(0)


async def test_an_open_page_does_not_recreate_a_deleted_room(site: Site) -> None:
    page = await site.enter("alice", "list-deleted")
    await say(page, "before")
    await expect(page.locator(".log .text")).to_have_count(1)
    await site.shell("Room.objects.get(name='list-deleted').delete()")
    await expect(page.locator(".state-word")).to_have_text("No access")
    await page.reload()
    await expect(page.get_by_role("heading")).to_contain_text("no longer exists")
    await page.get_by_role("button", name="Create a new room").click()
    await page.wait_for_url("**/chat/room/list-deleted/")
    await connected(page)
    await expect(page.locator(".log .text")).to_have_count(0)


async def test_search_is_kept_when_the_list_refreshes(site: Site) -> None:
    await site.shell("Room.objects.bulk_create(Room(name=f'searched-{n}') for n in range(25))")
    page = await site.window("alice")
    await page.goto("/chat/")
    await page.get_by_label("Search rooms").fill("searched-2")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator(".room-list li")).to_have_count(6)
    async with page.expect_response("**/chat/api/rooms?search=searched-2"):
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(page.locator(".room-list li")).to_have_count(6)


@pytest.mark.parametrize("status", [429, 503])
async def test_list_requests_wait_for_retry_after(site: Site, status: int) -> None:
    await site.shell("Room.objects.get_or_create(name='list-busy')")
    page = await site.window("alice")
    await page.clock.install()
    requests = []

    async def refuse(route: Route) -> None:
        requests.append(route.request.url)
        await route.fulfill(status=status, headers={"Retry-After": "100"}, body="")

    await page.route("**/chat/api/rooms", refuse)
    await page.goto("/chat/")
    notice = page.locator(".list-notice")
    await expect(notice).to_contain_text("The server is busy. This list may be out of date")
    for _ in range(5):
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await page.clock.fast_forward(90_000)
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(notice).to_contain_text("The server is busy.")
    assert len(requests) == 1
    await page.unroute("**/chat/api/rooms")
    async with page.expect_response("**/chat/api/rooms"):
        await page.clock.fast_forward(200_000)
    await expect(notice).to_be_empty()
