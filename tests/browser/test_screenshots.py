"""Screenshots of every page in every state, in build/screenshots, for people to look at.

With SCREENSHOTS=<minutes> set (make screenshots), guests chat for that time before the dashboard is captured, and
the pictures of README are copied to docs/images.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from tests.browser.conftest import PICTURES, SCREENSHOTS, running_site
from tests.browser.life import create_rooms, simulated_guests
from tests.browser.people import Scheme, Site, connected, say

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MINUTES = float(os.environ.get("SCREENSHOTS", "0"))
Look = tuple[int, int, Scheme]
LOOKS: list[Look] = [(1440, 900, "light"), (1440, 900, "dark"), (390, 844, "light"), (390, 844, "dark")]
SMALL: list[Look] = [(1280, 700, "light"), (1280, 700, "dark")]  # charts with many lines make big files
DEAD_TIMEOUT = 45_000  # ms
README = {
    "chat-busy-1440-light": "chat",
    "chat-unsent-390-dark": "chat-phone",
    "dashboard-live-1280-dark": "dashboard",
    "dashboard-dead-390-light": "dashboard-stale-phone",
    "rooms-390-light": "rooms-phone",
}
MAX_PICTURE_BYTES = 200_000

Take = Callable[..., Awaitable[list[Page]]]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def yard(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with running_site(chromium, tmp_path_factory.mktemp("yard")) as site:
        await create_rooms(site)
        yield site
        await site.close_windows()


@pytest.fixture
def take(yard: Site) -> Take:
    """Return a function that opens a page in each look, visits it and saves a screenshot of it.

    It closes the pages, or returns them if `stay` is set.
    """

    async def capture(
        name: str, visit: Callable[[Page], Awaitable[object]], looks: list[Look] = LOOKS, stay: bool = False
    ) -> list[Page]:
        pages = []
        for width, height, scheme in looks:
            page = await yard.window("alice", width=width, height=height, scheme=scheme, reduced_motion="reduce")
            await visit(page)
            await keep(page, f"{name}-{width}-{scheme}")
            if stay:
                pages.append(page)
            else:
                await page.context.close()
        return pages

    return capture


async def keep(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    file = SCREENSHOTS / f"{name}.png"
    await page.screenshot(path=file)
    if MINUTES and name in README:
        copy_to_docs(file, PICTURES / f"{README[name]}.png")


def copy_to_docs(file: Path, picture: Path) -> None:
    assert file.stat().st_size < MAX_PICTURE_BYTES, f"{file} is too big for README"
    picture.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, picture)


async def test_sign_in(take: Take) -> None:
    async def visit(page: Page) -> None:
        await page.context.clear_cookies()
        await page.goto("/accounts/login/")

    await take("sign-in", visit)

    async def fail(page: Page) -> None:
        await visit(page)
        await page.fill("#username", "alice")
        await page.fill("#password", "wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#password-errors")).to_be_visible()

    await take("sign-in-wrong", fail)


async def test_rooms(take: Take) -> None:
    await take("rooms", lambda page: page.goto("/chat/"))

    async def menu(page: Page) -> None:
        await page.goto("/chat/")
        await page.locator("details.menu summary").click()

    await take("menu", menu)


async def test_chat(yard: Site, take: Take) -> None:
    for name in ("dora", "charlie", "bob"):
        await yard.enter(name, "yard-north")

    async def busy(page: Page) -> None:
        await page.goto("/chat/room/yard-north/")
        await connected(page)
        await expect(page.locator(".people li")).to_have_count(4)

    await take("chat-busy", busy)

    async def drawer(page: Page) -> None:
        await busy(page)
        if await page.locator(".drawer-open").is_visible():
            await page.locator(".drawer-open").click()

    await take("chat-drawer", drawer)

    async def empty(page: Page) -> None:
        await page.goto("/chat/room/night-shift/")
        await connected(page)
        await expect(page.locator(".top")).to_contain_text("No messages yet.")

    await take("chat-empty", empty)


async def test_chat_while_disconnected(yard: Site, take: Take) -> None:
    async def unsent(page: Page) -> None:
        await page.goto("/chat/room/yard-north/")
        await connected(page)
        await say(page, "Points on track 4 work\a")
        await expect(page.locator(".pending[data-state=failed]")).to_be_visible()
        await page.context.set_offline(True)
        await expect(page.locator(".state-word")).to_contain_text("Reconnecting in")
        await say(page, "Points on track 4 work again, both ends are reached.")
        await say(page, "Track 4 can be opened.")
        await page.fill("#text", "Next: the")
        await expect(page.locator(".notice")).to_be_visible()

    await take("chat-unsent", unsent)

    async def closed_room(page: Page) -> None:
        await page.goto("/chat/room/not-for-bob/")

    await yard.shell("Room.objects.create(name='not-for-bob', closed=True)")
    await take("closed-door", closed_room)


@pytest.mark.timeout(300 + 60 * MINUTES)
async def test_dashboard(yard: Site, take: Take) -> None:
    async def live(page: Page) -> None:
        await page.goto("/chat/dashboard/")
        await expect(page.locator(".state-word")).to_have_text("Live")
        await expect(page.locator("tbody tr")).to_have_count(4)
        await page.wait_for_function("() => document.querySelector('.chart .legend b')?.textContent > ''")

    async def wall(page: Page) -> None:
        await page.goto("/chat/dashboard/?wall")
        await expect(page.locator(".summary")).to_have_text("All 4 well")

    async with simulated_guests(yard):
        await asyncio.sleep(20 + MINUTES * 60)
        await take("wall", wall)
        pages = await take("dashboard-live", live, [*LOOKS, *SMALL], stay=True)
    for child in yard.local.web:
        child.signal(signal.SIGSTOP)
    try:
        for age in ("stale", "dead"):
            for page in pages:
                await page.bring_to_front()
                await expect(page.locator(".tile").first).to_have_attribute("data-age", age, timeout=DEAD_TIMEOUT)
                await keep(page, f"dashboard-{age}-{await look(page)}")
    finally:
        for child in yard.local.web:
            child.signal(signal.SIGCONT)


async def test_admin(take: Take) -> None:
    await take("admin", lambda page: page.goto("/admin/chat/room/"))


async def look(page: Page) -> str:
    """Return the end of the file names of this page's screenshots: its width and colour scheme."""
    assert page.viewport_size is not None
    dark = await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    return f"{page.viewport_size['width']}-{'dark' if dark else 'light'}"
