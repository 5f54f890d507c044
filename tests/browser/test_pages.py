"""Requirements of every page: accessibility, keyboard use, colour schemes, window widths and size."""

import zlib
from collections.abc import Awaitable, Callable

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, Response, expect
from tests.browser.people import Scheme, Site, connected, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MAX_FIRST_LOAD_BYTES = 52_000  # compressed, without uPlot
Visit = Callable[[Page], Awaitable[None]]


async def sign_in(page: Page) -> None:
    await page.context.clear_cookies()
    await page.goto("/accounts/login/")
    await page.fill("#username", "alice")
    await page.fill("#password", "wrong")
    await page.keyboard.press("Enter")
    await expect(page.locator("#password-errors")).to_be_visible()


async def rooms(page: Page) -> None:
    await page.goto("/chat/")
    await page.fill("#name", "not a name")
    await page.keyboard.press("Enter")
    await page.locator("details.menu summary").click()


async def room(page: Page) -> None:
    await page.goto("/chat/room/axe/")
    await connected(page)
    await say(page, "hello")
    await say(page, "a failed one \a")
    await expect(page.locator(".pending[data-state=failed]")).to_be_visible()
    await page.fill("#text", "x" * 4001)


async def full_room(page: Page) -> None:
    await page.goto("/chat/room/axe-full/")
    await expect(page.locator(".notice")).to_be_visible()


async def closed_room(page: Page) -> None:
    await page.goto("/chat/room/axe-closed/")


async def not_found(page: Page) -> None:
    await page.goto("/no/such/page")


async def dashboard(page: Page) -> None:
    await page.goto("/chat/dashboard/")
    await expect(page.locator("tbody tr")).to_have_count(4)


async def wall(page: Page) -> None:
    await page.goto("/chat/dashboard/?wall")
    await expect(page.locator("[data-figure=connections] b")).to_have_text("1")


PAGES: list[Visit] = [sign_in, rooms, room, full_room, closed_room, not_found, dashboard, wall]
LOOKS: list[tuple[int, int, Scheme]] = [
    (1440, 900, "light"),
    (1440, 900, "dark"),
    (390, 844, "light"),
    (390, 844, "dark"),
]


@pytest.mark.parametrize("visit", PAGES, ids=lambda visit: visit.__name__)
async def test_axe_finds_no_violations_on_desktop_and_phone(site: Site, visit: Visit) -> None:
    if visit is closed_room:
        await site.shell("Room.objects.create(name='axe-closed', closed=True)")
    if visit is full_room:
        await site.shell("Room.objects.create(name='axe-full', limit=1)")
        await site.enter("bob", "axe-full")
    for width, height, scheme in LOOKS:
        page = await site.window("alice", width=width, height=height, scheme=scheme, reduced_motion="reduce")
        await visit(page)
        results = await Axe().run(page)
        assert results.violations_count == 0, f"{width} px, {scheme}: {results.generate_report()}"
        await page.context.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1100, 2560])
async def test_no_page_scrolls_sideways(site: Site, width: int) -> None:
    await site.shell(
        "Room.objects.get_or_create(name='wide-' + 'w' * 60, defaults={'title': 'A title that is ' + 'long ' * 30})"
    )
    long = await site.enter("bob", "wide-" + "w" * 60)
    await say(long, "https://example.invalid/" + "x" * 300)
    page = await site.window("alice", width=width, height=700)
    for address in ("/accounts/login/", "/chat/", f"/chat/room/wide-{'w' * 60}/", "/chat/dashboard/"):
        await page.goto(address)
        await page.wait_for_load_state("load")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, address
        await expect(page.locator(".bar .menu summary")).to_be_in_viewport(ratio=1)


async def test_chat_is_usable_with_the_keyboard_alone(strict_site: Site) -> None:
    await strict_site.shell("Room.objects.get_or_create(name='keys')")
    page = await strict_site.window()
    press = page.keyboard.press

    async def tab_to(name: str, key: str = "Tab") -> None:
        for _ in range(40):
            await press(key)
            if name in await page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText"):
                return
        raise AssertionError(f"{name!r} is not reached")

    await page.goto("/chat/")
    await page.keyboard.type("bob")
    await press("Tab")
    await page.keyboard.type(strict_site.password("bob"))
    await press("Enter")
    await page.wait_for_url(f"{strict_site.local.url}/chat/")
    await press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    await tab_to("keys")
    await press("Enter")
    await connected(page)
    await page.keyboard.type("one line")
    await press("Shift+Enter")
    await page.keyboard.type("and another")
    await press("Enter")
    await expect(page.locator(".log .text")).to_have_text(["one line\nand another"])
    await tab_to("Menu", "Shift+Tab")
    await press("Enter")
    await expect(page.locator(".menu-body")).to_be_visible()
    await press("Escape")
    await expect(page.locator(".menu-body")).to_be_hidden()
    assert await page.evaluate("document.activeElement.tagName") == "SUMMARY"


async def test_room_list_is_a_drawer_on_phones(site: Site) -> None:
    page = await site.enter("alice", "drawer", width=390, height=844)
    await expect(page.locator("#rooms")).not_to_be_in_viewport()
    await page.locator(".drawer-open").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#rooms").get_by_role("link", name="drawer", exact=True)).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator("#rooms")).not_to_be_in_viewport()
    await expect(page.locator(".drawer-open")).to_be_focused()


async def test_chosen_colour_scheme_is_remembered(site: Site) -> None:
    page = await site.window("alice", scheme="light")
    await page.goto("/chat/")
    background = "getComputedStyle(document.body.parentElement).backgroundColor"
    light = await page.evaluate(background)
    await page.locator("details.menu summary").click()
    await page.get_by_text("Dark").click()
    dark = await page.evaluate(background)
    assert dark != light
    await page.goto("/chat/room/colours/")
    assert await page.evaluate(background) == dark
    await page.goto("/admin/")
    assert await page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("address", ["/accounts/login/", "/chat/", "/chat/room/weight/", "/chat/dashboard/"])
async def test_first_load_of_a_page_stays_small(site: Site, address: str) -> None:
    await site.shell("Room.objects.all().delete()")  # whose number and names would count
    page = await site.window("alice")
    sizes: dict[str, int] = {}

    async def weigh(answer: Response) -> None:
        if "/vendor/uplot/" not in answer.url:
            sizes[answer.url] = len(zlib.compress(await answer.body(), 1))  # as nginx does

    page.on("response", weigh)
    await page.goto(address)
    await page.wait_for_load_state("networkidle")
    assert 5_000 < sum(sizes.values()) < MAX_FIRST_LOAD_BYTES, sizes
