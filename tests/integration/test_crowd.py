"""A room with thousands of members on several processes: delivery, counts and the room limit."""

import asyncio
import contextlib
import os
from pathlib import Path

from tests.integration.local import Person, installation

from channelbox.realtime.errors import Close

MEMBERS = 2000
AT_ONCE = 50
TIMEOUT = 120


async def test_thousands_of_members_receive_messages_and_are_counted(tmp_path: Path) -> None:
    variables = {"CHANNELBOX_ROOM_LIMIT": str(MEMBERS), "CHANNELBOX_ROOM_GUESTS": "100"}
    async with (
        installation(tmp_path, redis_url=os.environ["CHANNELBOX_REDIS_URL"], variables=variables) as local,
        contextlib.AsyncExitStack() as stack,
    ):
        gate = asyncio.Semaphore(AT_ONCE)

        async def enter() -> Person:
            async with gate:
                # A busy test process answers pings late.
                person = await local.enter("hall", open_timeout=TIMEOUT, ping_interval=None)
                return await stack.enter_async_context(person)

        crowd = await asyncio.gather(*(enter() for _ in range(MEMBERS)))

        late = await stack.enter_async_context(await local.open("/ws/chat/hall/"))
        assert await late.closed(TIMEOUT) == Close.ROOM_FULL

        await crowd[0].say("hear, hear")
        await asyncio.gather(*(person.wait_for("hear, hear", seconds=TIMEOUT) for person in crowd))
        await crowd[-1].until(lambda: _newest_count(crowd[-1]) == MEMBERS, TIMEOUT)
        assert all("users" not in frame for frame in crowd[-1].frames if frame.get("count", 0) > 100)

        dashboard = await stack.enter_async_context(await local.open("/ws/dashboard/"))
        await dashboard.until(lambda: _connections(dashboard) == MEMBERS, TIMEOUT)
        shares = [p["connections"] for p in _data(dashboard)["processes"] if p["kind"] == "web"]
        assert len(shares) == 2
        assert min(shares) > 0


def _newest_count(person: Person) -> int:
    return next((f["count"] for f in reversed(person.frames) if f.get("type") == "presence"), 0)


def _data(dashboard: Person) -> dict:
    return next((frame["data"] for frame in reversed(dashboard.frames) if "data" in frame), {})


def _connections(dashboard: Person) -> int:
    """Return the number of connections without the dashboard's own."""
    return _data(dashboard).get("totals", {}).get("connections", 0) - 1
