"""Detection of rooms that missed a publish: what was published while nothing was received is in the database."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from channelbox.realtime.background_tasks import cancel, supervise
from channelbox.realtime.history_source import NO_ROOM, Identity, Observed
from channelbox.realtime.hub import Hub
from channelbox.realtime.hub_room import HubRoom

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 10.0
MAX_ROOMS_AT_ONCE = 500  # rooms in one query

Observe = Callable[[list[str]], Awaitable[dict[str, Observed]]]
Renew = Callable[[Identity], Awaitable[object]]


class Reconciler:
    """Compares the rooms open in this process with the database, every 10 s and when something may have been missed."""

    def __init__(self, hub: Hub, observe: Observe, renew: Renew) -> None:
        """`observe`: returns what the database has of rooms, by name.

        `renew`: draws another epoch for the installation, unless its epoch differs from this identity's already.
        """
        self._hub = hub
        self._observe = observe
        self._renew = renew
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = supervise("reconciler", self._run)

    async def stop(self) -> None:
        await cancel(self._task)

    def now(self) -> None:
        """Compare all rooms at once. Call it when messages may have been missed."""
        self._wake.set()

    async def _run(self) -> None:
        pause = INTERVAL_SECONDS
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.compare()
                pause = INTERVAL_SECONDS
            except Exception as error:
                logger.warning("Cannot compare rooms with the database: %s", error)
                pause = 1.0

    async def compare(self) -> None:
        """Compare all rooms once. Raises what the database raises."""
        names = list(self._hub.rooms)
        for start in range(0, len(names), MAX_ROOMS_AT_ONCE):
            some = names[start : start + MAX_ROOMS_AT_ONCE]
            # Only rooms opened before the query: its answer says nothing about a room that is opened meanwhile.
            rooms = {name: room for name in some if (room := self._hub.rooms.get(name)) is not None and room.opened}
            seen = {name: room.seq for name, room in rooms.items()}
            observed = await self._observe(list(rooms))
            for name, room in rooms.items():
                found = observed.get(name, NO_ROOM)
                if self._hub.has_lost(room, found, seen[name]):
                    await self._reload_room(name, room, seen[name], found)
                else:
                    self._hub.observe(name, room, found)

    async def _reload_room(self, name: str, room: HubRoom, seen: int, found: Observed) -> None:
        """Have all clients load the room again: the numbers of the lost events are given to other events now."""
        logger.error(
            "Room %s: the newest event in the database is %d, but %d had been stored. The database has lost the newest "
            "events, as happens when a lagging standby is promoted. All clients reload their rooms.",
            name,
            found.seq,
            seen,
        )
        await self._renew(found.identity)
        self._hub.give_up(name, room)
