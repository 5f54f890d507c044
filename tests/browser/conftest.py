"""Fixtures: Debian's Chromium, and real installations with web processes, workers, Redis and a database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright
from tests.browser.people import Site
from tests.integration.local import Installation, new_database, print_line

CHROMIUM = "/usr/bin/chromium"
# Keep Chromium from connecting to anything on its own; its sandbox does not work for root.
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


class InstallationWithNodes(Installation):
    """An installation whose processes report different nodes, so that its pages look like those of a cluster."""

    def _environment_of(self, name: str) -> dict[str, str]:
        return {**super()._environment_of(name), "CHANNELBOX_NODE": NODES[name]}

    def _settings(self, port: int, redis_url: str) -> dict[str, str]:
        # It is also reachable as localhost, which is not an accepted origin.
        return {**super()._settings(port, redis_url), "CHANNELBOX_ORIGINS": self.url}


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        await browser.close()


@asynccontextmanager
async def running_site(
    chromium: Browser, folder: Path, *, web: int = 2, workers: int = 2, **variables: str
) -> AsyncIterator[Site]:
    """Run an installation with four users and these CHANNELBOX_* settings, and stop it afterwards."""
    local = InstallationWithNodes(
        folder,
        print_line,
        web=web,
        workers=workers,
        database_url=await new_database(folder),
        variables={"CHANNELBOX_OPERATOR": "Run by the signal tower. Questions: extension 411.", **variables},
    )
    await local.start()
    try:
        yield await Site(local, chromium).add_users("alice", "bob", "dora", "charlie", admins=["alice"])
    finally:
        await local.stop()


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def open_site(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The installation that most tests share. Each test must leave its processes running, and use its own rooms."""
    async with running_site(chromium, tmp_path_factory.mktemp("open")) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def closed_site(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """An installation without guests, in which only staff may create rooms."""
    settings = {"CHANNELBOX_GUESTS": "false", "CHANNELBOX_ROOM_CREATION": "staff"}
    async with running_site(chromium, tmp_path_factory.mktemp("closed"), web=1, workers=1, **settings) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def site(open_site: Site) -> AsyncIterator[Site]:
    yield open_site
    await open_site.close_windows()


@pytest_asyncio.fixture(loop_scope="session")
async def strict_site(closed_site: Site) -> AsyncIterator[Site]:
    yield closed_site
    await closed_site.close_windows()
