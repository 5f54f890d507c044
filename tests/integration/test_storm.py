"""A storm on a room: far more want in than there are places, over several processes at once."""

import asyncio
import contextlib
import os
from pathlib import Path

from tests.integration.local import Installation, Person, installation

from channelbox.realtime.errors import Close

LIMIT = 1000
WANT = 2000
AT_ONCE = 100
PROCESSES = 4
PATIENCE = 120


async def test_a_room_is_never_fuller_than_its_limit_and_full_when_enough_want_in(tmp_path: Path) -> None:
    variables = {"CHANNELBOX_ROOM_LIMIT": str(LIMIT), "CHANNELBOX_ROOM_GUESTS": "100"}
    redis_url = os.environ["CHANNELBOX_REDIS_URL"]
    async with (
        installation(tmp_path, web=PROCESSES, redis_url=redis_url, variables=variables) as local,
        contextlib.AsyncExitStack() as stack,
    ):
        inside = await _storm(local, stack, WANT)
        # Nobody left: whoever was let in holds a place, so that this is the most that there ever were.
        assert len(inside) == LIMIT

        # Half of them leave while as many as before try again.
        leaving, staying = inside[: LIMIT // 2], inside[LIMIT // 2 :]
        _, newcomers = await asyncio.gather(
            asyncio.gather(*(person.connection.close() for person in leaving)), _storm(local, stack, WANT // 2)
        )
        assert len(staying) + len(newcomers) <= LIMIT
        # What is lacking is free: those who were turned away had come before the others had left.
        late = await _storm(local, stack, LIMIT)
        assert len(staying) + len(newcomers) + len(late) == LIMIT


async def _storm(local: Installation, stack: contextlib.AsyncExitStack, people: int) -> list[Person]:
    """So many come; returns those who were let in. The others were told that the room is full."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def come() -> Person | None:
        async with gate:
            # A busy test process answers pings late.
            options = {"open_timeout": PATIENCE, "ping_interval": None}
            person = await stack.enter_async_context(await local.open("/ws/chat/storm/", **options))
            await person.until(lambda: bool(person.frames), PATIENCE)
            if person.frames[0].get("type") == "welcome":
                return person
            assert person.errors[0]["code"] == "room_full"
            assert await person.closed(PATIENCE) == Close.ROOM_FULL
            return None

    return [person for person in await asyncio.gather(*(come() for _ in range(people))) if person is not None]
