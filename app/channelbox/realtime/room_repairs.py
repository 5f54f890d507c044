"""Repairs: reads events that a room of this process has missed, once for the process rather than for each member."""

import asyncio
import logging

from channelbox.realtime import history_source
from channelbox.realtime.background_tasks import failed, supervise
from channelbox.realtime.counters import counters
from channelbox.realtime.history_source import HistorySource, identity_of
from channelbox.realtime.hub_room import HubRoom, Run

logger = logging.getLogger(__name__)

# Wait before missing events are read: when two workers' messages cross, the earlier one has mostly arrived by then.
REORDER_SECONDS = 0.05
MAX_PAUSE_SECONDS = 5.0
MAX_REPAIRS = 8  # rooms whose missing events are read at the same time: as many as the database reads in one query


class RoomRepairs:
    """The repairs of one hub. Each runs as a task, which is in `tasks` until it ends."""

    def __init__(self, store: HistorySource, tasks: set[asyncio.Task[None]]) -> None:
        self._store = store
        self._tasks = tasks
        self._reads = asyncio.Semaphore(MAX_REPAIRS)  # so that other reads do not wait for all repairs

    def advance(self, name: str, room: HubRoom) -> None:
        """Write the events that are next in sequence, and start a repair if events before known ones are missing."""
        if room.advance() and room.repair is None:
            room.repair = supervise(f"repair of room {name}", lambda: self._repair(name, room))
            self._tasks.add(room.repair)
            room.repair.add_done_callback(self._tasks.discard)

    async def _repair(self, name: str, room: HubRoom) -> None:
        pause = REORDER_SECONDS
        await asyncio.sleep(pause)
        while room.known > room.seq:
            await room.has_space()
            read = True
            try:
                async with self._reads:
                    if room.known <= room.seq:
                        continue  # received meanwhile
                    run = await self._store.after(name, identity_of(room), room.seq, history_source.PAGE_EVENTS)
            except Exception as error:
                failed(logger, error, "Room %s: cannot read the events that are missing after %d", name, room.seq)
                run, read = Run(room.seq + 1, room.seq, b""), False
            if run.last > room.seq:
                counters.repairs += 1
                room.park(run)
                self.advance(name, room)
                pause = REORDER_SECONDS
            elif pause >= MAX_PAUSE_SECONDS and read:
                logger.warning(
                    "Room %s: the database has no event after %d, but event %d was announced",
                    name,
                    room.seq,
                    room.known,
                )
                room.forget_parked()
            else:
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
                await asyncio.sleep(pause)
        room.repair = None  # not if this raised: then the repair is started again
