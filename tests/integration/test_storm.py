"""A storm of joins: far more clients than slots in a room, at several processes at once."""

import asyncio
import contextlib
import os
from pathlib import Path

from tests.integration.local import Installation, Person, installation

from channelbox.realtime.errors import Close

LIMIT = 1000
ATTEMPTS = 2000
AT_ONCE = 100
PROCESSES = 4
TIMEOUT = 120


async def test_a_room_fills_to_its_limit_and_never_exceeds_it(tmp_path: Path) -> None:
    variables = {"CHANNELBOX_ROOM_LIMIT": str(LIMIT), "CHANNELBOX_ROOM_GUESTS": "100"}
    redis_url = os.environ["CHANNELBOX_REDIS_URL"]
    async with (
        installation(tmp_path, web=PROCESSES, redis_url=redis_url, variables=variables) as local,
        contextlib.AsyncExitStack() as stack,
    ):
        members = await _storm(local, stack, ATTEMPTS)
        # Nobody left: every member still has a slot, so this is the maximum that there ever was.
        assert len(members) == LIMIT

        # Half of them leave while as many as before try again.
        leaving, staying = members[: LIMIT // 2], members[LIMIT // 2 :]
        _, newcomers = await asyncio.gather(
            asyncio.gather(*(person.connection.close() for person in leaving)), _storm(local, stack, ATTEMPTS // 2)
        )
        assert len(staying) + len(newcomers) <= LIMIT
        # The remaining slots are free: clients were refused because the others had not left yet.
        late = await _storm(local, stack, LIMIT)
        assert len(staying) + len(newcomers) + len(late) == LIMIT


async def _storm(local: Installation, stack: contextlib.AsyncExitStack, people: int) -> list[Person]:
    """Let this many clients try to join. Return the members; all others were refused as the room was full."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def try_to_join() -> Person | None:
        async with gate:
            # A busy test process answers pings late.
            options = {"open_timeout": TIMEOUT, "ping_interval": None}
            person = await stack.enter_async_context(await local.open("/ws/chat/storm/", **options))
            await person.until(lambda: bool(person.frames), TIMEOUT)
            if person.frames[0].get("type") == "welcome":
                return person
            assert person.errors[0]["code"] == "room_full"
            assert await person.closed(TIMEOUT) == Close.ROOM_FULL
            return None

    return [person for person in await asyncio.gather(*(try_to_join() for _ in range(people))) if person is not None]
