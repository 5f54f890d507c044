"""A local installation whose people may talk fast, and somebody who goes on talking."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration.local import Installation, Person, installation
from tests.support.waiting import until

RECOVERY_SECONDS = 30
RESENT_SECONDS = 6  # in which a batch without an answer is sent again and stored; 3.5 are expected
UNHURRIED = {"CHANNELBOX_RATE": "1000", "CHANNELBOX_RATE_BURST": "1000"}


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path, redis_url=os.environ["CHANNELBOX_REDIS_URL"], variables=UNHURRIED) as local:
        yield local


@asynccontextmanager
async def talking(person: Person, pause: float = 0.02) -> AsyncIterator[list[str]]:
    """Somebody who goes on talking; what was said is in the list."""
    said: list[str] = []

    async def talk() -> None:
        while True:
            said.append(f"message {len(said)}")
            await person.say(said[-1])
            await asyncio.sleep(pause)

    task = asyncio.create_task(talk())
    try:
        yield said
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def more(said: list[str], count: int) -> None:
    """Waits until `count` more things have been said."""
    enough = len(said) + count
    await until(lambda: len(said) >= enough, RECOVERY_SECONDS)
