"""The list of rooms and the dashboard, open across an upgrade: each loads itself again when nobody notices."""

import json

import pytest
from playwright.async_api import Page, Route, WebSocketRoute, expect
from tests.browser.people import Town

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

QUIET = 130_000  # ms: a minute without a sign of the person, and as much again to spread the pages
LIST = "**/chat/api/rooms"


async def listed_by_another_version(route: Route) -> None:
    room = {"name": "upgraded", "title": "", "url": "/chat/room/upgraded/", "members_only": False, "seq": 0}
    await route.fulfill(json={"rooms": [{**room, "changed_at": "2026-11-24T08:00:00.000Z"}], "version": "99"})


async def open_list(town: Town) -> Page:
    """The list of rooms, after the server was upgraded."""
    await town.shell("Room.objects.get_or_create(name='upgraded')")
    page = await town.window("alice")
    await page.clock.install()
    await page.route(LIST, listed_by_another_version)
    async with page.expect_response(LIST):
        await page.goto("/chat/")
    await page.evaluate("window.before = true")
    return page


async def open_dashboard(town: Town) -> Page:
    """The dashboard, after the server was upgraded."""
    page = await town.window("alice")

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


@pytest.mark.parametrize("opened", [open_list, open_dashboard])
async def test_a_page_loads_itself_again_once_and_only_when_it_can_be_had(town: Town, opened) -> None:
    page = await opened(town)
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
async def test_a_list_in_which_something_is_typed_stays(town: Town, field: str) -> None:
    await town.shell("Room.objects.bulk_create([Room(name=f'up-{n}') for n in range(25)], ignore_conflicts=True)")
    page = await open_list(town)
    await page.get_by_label(field).fill("half a na")
    for _ in range(3):
        await page.clock.fast_forward(QUIET)
    assert await page.evaluate("window.before")
    await page.get_by_label(field).fill("")
    async with page.expect_event("load"):
        await page.clock.fast_forward(QUIET)


async def test_the_answer_to_a_form_is_not_loaded_again(town: Town) -> None:
    page = await open_list(town)
    async with page.expect_response(LIST):
        await page.get_by_role("button", name="Open", exact=True).click()
    await expect(page.locator("#name-below")).to_have_text("Enter a room name.")
    await page.evaluate("window.before = true")
    for _ in range(3):
        await page.clock.fast_forward(QUIET)
    assert await page.evaluate("window.before")


async def test_a_dashboard_in_full_screen_stays_there(town: Town) -> None:
    page = await open_dashboard(town)
    await page.get_by_role("button", name="Full screen").click()
    await page.wait_for_function("() => document.fullscreenElement")
    for _ in range(3):
        await page.clock.fast_forward(QUIET)
    assert await page.evaluate("window.before")
    await page.evaluate("document.exitFullscreen()")
    await page.wait_for_function("() => !document.fullscreenElement && !location.search")
    # Not expect_navigation(): it takes the address without ?wall, which the page sets itself, for the reload, and
    # Chromium does not close a window in which a page is just arriving.
    async with page.expect_event("load"):
        await page.clock.fast_forward(QUIET)
