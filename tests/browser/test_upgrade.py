"""The list of rooms and the dashboard, open across an upgrade: each reloads while nobody is using it."""

import json

import pytest
from playwright.async_api import Page, Route, WebSocketRoute, expect
from tests.browser.people import Site

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

QUIET = 130_000  # ms: a minute without input, and as much again over which reloads are spread
LIST = "**/chat/api/rooms"


async def listed_by_another_version(route: Route) -> None:
    room = {"name": "upgraded", "title": "", "url": "/chat/room/upgraded/", "members_only": False, "seq": 0}
    await route.fulfill(json={"rooms": [{**room, "changed_at": "2026-11-24T08:00:00.000Z"}], "version": "99"})


async def open_list(site: Site) -> Page:
    """Return the page of the list of rooms, after the server was upgraded."""
    await site.shell("Room.objects.get_or_create(name='upgraded')")
    page = await site.window("alice")
    await page.clock.install()
    await page.route(LIST, listed_by_another_version)
    async with page.expect_response(LIST):
        await page.goto("/chat/")
    await page.evaluate("window.before = true")
    return page


async def open_dashboard(site: Site) -> Page:
    """Return the page of the dashboard, after the server was upgraded."""
    page = await site.window("alice")

    def between(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def forward(text: str | bytes) -> None:
            frame = json.loads(text)
            socket.send(json.dumps({**frame, "version": "99"}) if frame.get("type") == "welcome" else text)

        server.on_message(forward)

    await page.route_web_socket("**/ws/dashboard/", between)
    await page.clock.install()
    await page.goto("/chat/dashboard/")
    await expect(page.locator(".state-word")).to_have_text("Live")
    await page.evaluate("window.before = true")
    return page


@pytest.mark.parametrize("open_page", [open_list, open_dashboard])
async def test_a_page_reloads_once_per_upgrade_and_not_into_an_error(site: Site, open_page) -> None:
    page = await open_page(site)
    refused = True

    async def answer(route: Route) -> None:
        if route.request.method == "HEAD" and refused:
            await route.fulfill(status=500)
        else:
            await route.continue_()

    await page.route(page.url, answer)
    await page.keyboard.press("Shift")
    await page.clock.fast_forward(50_000)
    async with page.expect_request(lambda request: request.method == "HEAD"):
        await page.clock.fast_forward(QUIET)
    assert await page.evaluate("window.before"), "not into an error"
    refused = False
    async with page.expect_event("load"):
        await page.clock.fast_forward(31_000)
    await page.evaluate("window.before = true")
    await page.clock.fast_forward(QUIET)
    assert await page.evaluate("window.before"), "once for each change"


@pytest.mark.parametrize("field", ["Open or create a room", "Search rooms"])
async def test_a_list_with_typed_text_does_not_reload(site: Site, field: str) -> None:
    await site.shell("Room.objects.bulk_create([Room(name=f'up-{n}') for n in range(25)], ignore_conflicts=True)")
    page = await open_list(site)
    await page.get_by_label(field).fill("half a na")
    for _ in range(3):
        await page.clock.fast_forward(QUIET)
    assert await page.evaluate("window.before")
    await page.get_by_label(field).fill("")
    async with page.expect_event("load"):
        await page.clock.fast_forward(QUIET)


async def test_a_form_response_does_not_reload(site: Site) -> None:
    page = await open_list(site)
    async with page.expect_response(LIST):
        await page.get_by_role("button", name="Open", exact=True).click()
    await expect(page.locator("#name-below")).to_have_text("Enter a room name.")
    await page.evaluate("window.before = true")
    for _ in range(3):
        await page.clock.fast_forward(QUIET)
    assert await page.evaluate("window.before")


async def test_a_full_screen_dashboard_does_not_reload(site: Site) -> None:
    page = await open_dashboard(site)
    await page.get_by_role("button", name="Full screen").click()
    await page.wait_for_function("() => document.fullscreenElement")
    for _ in range(3):
        await page.clock.fast_forward(QUIET)
    assert await page.evaluate("window.before")
    await page.evaluate("document.exitFullscreen()")
    await page.wait_for_function("() => !document.fullscreenElement && !location.search")
    # Not expect_navigation(): it would mistake the URL without ?wall, which the page sets itself, for the reload, and
    # Chromium does not close a window in which a page is being loaded.
    async with page.expect_event("load"):
        await page.clock.fast_forward(QUIET)
