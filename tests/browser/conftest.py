"""Debian's Chromium and real installations: web processes, workers, Redis and a database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright
from tests.browser.people import Town
from tests.integration.local import Installation, new_database, tell

CHROMIUM = "/usr/bin/chromium"
# Chromium must not connect to anything on its own; its sandbox does not work for root.
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
    """An installation whose processes report different nodes, so that the pages show what those of a cluster show."""

    def _environment_of(self, name: str) -> dict[str, str]:
        return {**super()._environment_of(name), "CHANNELBOX_NODE": NODES[name]}

    def _settings(self, port: int, redis_url: str) -> dict[str, str]:
        # localhost also reaches it, but is not an accepted origin.
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
    """Run an installation with four users and these CHANNELBOX_* settings."""
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
    """The installation that most tests share. A test must leave its processes running, and use rooms of its own."""
    async with founded(chromium, tmp_path_factory.mktemp("open")) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def closed_town(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """An installation without guests, in which only staff may create rooms."""
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
