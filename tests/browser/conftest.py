"""Debian's Chromium in front of a real installation: web processes, a worker, Redis, a database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright
from tests.browser.people import Town
from tests.integration.local import Installation, new_database, tell

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

    def _environment_of(self, name: str) -> dict[str, str]:
        return {**super()._environment_of(name), "CHANNELBOX_NODE": NODES[name]}

    def _settings(self, port: int, redis_url: str) -> dict[str, str]:
        # As localhost it is reached too, but not accepted.
        return {**super()._settings(port, redis_url), "CHANNELBOX_ORIGINS": self.url}


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        await browser.close()


@asynccontextmanager
async def founded(
    chromium: Browser, folder: Path, *, web: int = 2, workers: int = 2, **variables: str
) -> AsyncIterator[Town]:
    """An installation with people, with these CHANNELBOX_* settings."""
    local = OnNodes(
        folder,
        tell,
        web=web,
        workers=workers,
        database_url=await new_database(folder),
        variables={"CHANNELBOX_OPERATOR": "Run by the signal tower. Questions: extension 411.", **variables},
    )
    await local.start()
    try:
        yield await Town(local, chromium).settle("alice", "ben", "mara", "joris", admins=["alice"])
    finally:
        await local.stop()


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def open_town(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """The installation that most tests share. A test leaves its processes running, and takes rooms of its own."""
    async with founded(chromium, tmp_path_factory.mktemp("open")) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def closed_town(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """One without guests, where only staff makes rooms."""
    settings = {"CHANNELBOX_GUESTS": "false", "CHANNELBOX_ROOM_CREATION": "staff"}
    async with founded(chromium, tmp_path_factory.mktemp("closed"), web=1, workers=1, **settings) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="session")
async def town(open_town: Town) -> AsyncIterator[Town]:
    yield open_town
    await open_town.go_home()


@pytest_asyncio.fixture(loop_scope="session")
async def strict_town(closed_town: Town) -> AsyncIterator[Town]:
    yield closed_town
    await closed_town.go_home()
