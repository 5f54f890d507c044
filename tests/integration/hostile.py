"""An installation for tests of hostile input, and a check that other clients are not affected."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from tests.integration.local import Installation, Person, installation

ROOM = "hello"
KIB = 1024
MESSAGE_MAX = 4000
SOCKETS = [f"/ws/chat/{ROOM}/", "/ws/dashboard/"]


@pytest_asyncio.fixture(name="local", scope="module", loop_scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """An installation as strict as production: no WebSocket without Origin, and guests may not create rooms."""
    variables = {
        "CHANNELBOX_ORIGIN_REQUIRED": "true",
        "CHANNELBOX_ROOM_CREATION": "users",
        "CHANNELBOX_REQUESTS_PERSON": "5",  # low, so that a flood of hundreds exceeds it
    }
    async with installation(tmp_path_factory.mktemp("hostile"), variables=variables) as local:
        await local.run(
            "manage", "shell", "-c", f"from channelbox.chat.models import *; Room.objects.create(name='{ROOM}')"
        )
        yield local


@asynccontextmanager
async def others_unaffected(local: Installation) -> AsyncIterator[None]:
    """Connect two clients to different processes, and afterwards assert that both receive messages and no error."""
    async with (
        await local.enter_at(local.web[0], ROOM, origin=local.url) as alice,
        await local.enter_at(local.web[1], ROOM, origin=local.url) as bob,
    ):
        yield
        await alice.say(text := os.urandom(8).hex())
        for person in (alice, bob):
            await person.wait_for(text)
            person.check_sequence()
            assert person.errors == []


async def still_works(person: Person) -> None:
    """Send a message and wait until it comes back."""
    await person.say(text := os.urandom(8).hex())
    await person.wait_for(text)
