"""An installation without a rate limit for tests of outages, and a client that sends messages continuously."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration.local import Installation, Person, installation
from tests.support.waiting import until

RECOVERY_SECONDS = 30
RESENT_SECONDS = 6  # until an unanswered batch has been sent again and stored; 3.5 are expected
HIGH_RATE = {"CHANNELBOX_RATE": "1000", "CHANNELBOX_RATE_BURST": "1000"}


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path, redis_url=os.environ["CHANNELBOX_REDIS_URL"], variables=HIGH_RATE) as local:
        yield local


@asynccontextmanager
async def sending(person: Person, pause: float = 0.02) -> AsyncIterator[list[str]]:
    """Let a client send a message every `pause` seconds; yield the growing list of the texts sent."""
    sent: list[str] = []

    async def send_messages() -> None:
        while True:
            sent.append(f"message {len(sent)}")
            await person.say(sent[-1])
            await asyncio.sleep(pause)

    task = asyncio.create_task(send_messages())
    try:
        yield sent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def wait_for_more(sent: list[str], count: int) -> None:
    """Wait until `count` more messages have been sent."""
    wanted = len(sent) + count
    await until(lambda: len(sent) >= wanted, RECOVERY_SECONDS)
