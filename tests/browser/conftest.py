"""Debian's Chromium in front of a real installation: web processes, a worker, Redis, a database."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright
from tests.browser.people import Town
from tests.integration.local import Installation, new_database

CHROMIUM = "/usr/bin/chromium"
# Chromium is not to call anybody on its own; root has no sandbox.
SWITCHES = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
PICTURES = Path(__file__).parents[2] / "docs" / "images"
NODES = {"web@1": "web-1", "web@2": "web-2", "worker@1": "worker-1", "worker@2": "worker-2"}


class OnNodes(Installation):
    """Its processes say that they are on nodes of their own, so that the pages show what those of a cluster do."""

    def _of(self, name: str) -> dict[str, str]:
        return {**super()._of(name), "CHANNELBOX_NODE": NODES[name]}


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def town(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """The installation that the tests share. A test leaves its processes running, and takes rooms of its own."""
    folder = tmp_path_factory.mktemp("town")
    local = OnNodes(
        folder,
        lambda name, line: sys.stdout.write(f"{name:>9} | {line}\n"),
        workers=2,
        database_url=await new_database(folder),
        variables={"CHANNELBOX_OPERATOR": "Run by the signal tower. Questions: extension 411."},
    )
    await local.start()
    try:
        yield await Town(local, chromium).settle("ann", "ben", "mara", "joris", admins=["ann"])
    finally:
        await local.stop()


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def _tidy(town: Town) -> AsyncIterator[None]:
    """Pages end with their test; what a browser objected to fails it."""
    yield
    await town.go_home()


@pytest.fixture
def screenshot() -> Callable[..., Awaitable[None]]:
    """Keeps a picture of a page in build/screenshots."""

    async def keep(page: object, name: str, **options: object) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=SCREENSHOTS / f"{name}.png", **options)  # type: ignore[attr-defined]

    return keep
