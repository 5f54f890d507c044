"""An outbox over a real Redis. The database is empty, the rooms of the hub are real; the test acts as the worker.

Test modules import the fixtures.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import Batch, BatchOutcome, Envelope, IncomingEvent, RoomRef
from channelbox.realtime.frames import json_frame, payloads
from channelbox.realtime.history_source import Identity, Opened
from channelbox.realtime.hub import Hub
from channelbox.realtime.hub_room import HubRoom, Run
from channelbox.realtime.redis_hosts import Host
from channelbox.work.backpressure import Bounds
from channelbox.work.outbox import Outbox
from channelbox.work.pending_message import PendingMessage
from channelbox.work.queue import WorkLayer

CHANNEL = "test.jobs"


class EmptyHistorySource:
    """A history source without events."""

    async def open(self, name: str) -> Opened:
        return Opened(Identity(1, "epoch"), 1, Run(1, 0, b""))

    async def after(self, name: str, identity: Identity, seq: int, most: int) -> Run:
        return Run(seq + 1, seq, b"")


class Sender:
    """A member that queues the frames that it receives."""

    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def restart(self) -> None:
        raise AssertionError("no member is restarted in this test")

    def write_frames(self, frames: bytes) -> None:
        for _, payload in payloads(frames):
            self.received.put_nowait(json.loads(bytes(payload)))

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.received.get(), 10)


class OutboxHarness:
    """An outbox, and the worker's side of its queue."""

    def __init__(
        self,
        capacity: int = 100,
        expiry: float = 0.3,
        max_messages: int = 1000,
        max_bytes: int = 10_000_000,
        hosts: Sequence[Host] | None = None,
    ) -> None:
        self.bus = Bus.current(hosts)
        self.layer = WorkLayer(hosts, capacity=capacity, expiry=expiry)
        self.hub = Hub(self.bus, EmptyHistorySource(), "me")
        bounds = Bounds(max_messages, max_bytes, 0.5)
        self.outbox = Outbox(self.layer, CHANNEL, "job", self.bus, self.hub, "me", bounds)
        self.hub.on_outcome = self.outbox.settle
        self.sender = Sender()

    def put(
        self, *ids: str, room: str = "r", name: str = "alice", text: str = "hi", sender: Sender | None = None
    ) -> None:
        for id in ids:
            self.outbox.put(
                RoomRef(1, room),
                PendingMessage(IncomingEvent(f"g:{name}", None, name, id, "message", text), sender or self.sender),
            )

    def pretend_written(self, seq: int) -> None:
        """Pretend that events up to `seq` have been written to the room's members."""
        room = self.hub.rooms.get("r")
        if room is None:
            ready = asyncio.get_running_loop().create_future()
            ready.set_result(None)
            room = self.hub.rooms["r"] = HubRoom(ready)
            room.key, room.epoch = 1, "epoch"
            self.bus.begin(redis_keys.room("r"), lambda payload: self.hub._payload("r", room, payload))
        room.seq = room.known = seq

    async def taken(self) -> list[dict[str, Any]]:
        """Wait for entries in the queue, and return those of both of its lists."""
        async with asyncio.timeout(10):
            while not (entries := await self._both()):
                pass
        return entries

    async def taken_in_bulk(self) -> list[dict[str, Any]]:
        """Wait for entries in the bulk list, and return them."""
        async with asyncio.timeout(10):
            while not (entries := await self.layer.receive_many(CHANNEL, 200, 1, bulk=True)):
                pass
        return entries

    async def _both(self) -> list[dict[str, Any]]:
        few, much = [await self.layer.receive_many(CHANNEL, 200, 0.05, bulk=bulk) for bulk in (False, True)]
        return few + much

    async def publish_outcome(
        self,
        entry: dict[str, Any],
        first: int = 1,
        known: dict[str, int] | None = None,
        refused: dict[str, tuple[str, str]] | None = None,
    ) -> None:
        """Publish an outcome as a worker does. `known` and `refused` are by id; others are numbered from `first`."""
        batch = Batch.of(entry)
        numbers, next_seq = [], first
        known_at, refused_at = set(), {}
        for position, id in enumerate(ids(entry)):
            if id in (known or {}):
                known_at.add(position)
                numbers.append((known or {})[id])
            elif id in (refused or {}):
                refused_at[position] = (refused or {})[id]
                numbers.append(0)
            else:
                numbers.append(next_seq)
                next_seq += 1
        outcome = BatchOutcome(batch.ref, numbers, frozenset(known_at), refused_at)
        run = (first, next_seq - 1) if next_seq > first else (0, max((known or {"": 0}).values()))
        frames = b"".join(json_frame({"seq": seq}) for seq in range(first, next_seq))
        await self.bus.publish(redis_keys.room(batch.room.name), Envelope(*run, frames, 1, [outcome]).pack())

    async def empty(self) -> None:
        await asyncio.wait_for(self.outbox._empty.wait(), 10)


@pytest.fixture
async def harnesses() -> AsyncIterator[list[OutboxHarness]]:
    harnesses: list[OutboxHarness] = []
    yield harnesses
    for harness in harnesses:
        await harness.outbox.stop(0)
        await harness.hub.stop()
        await harness.bus.stop()
    await Bus.current().stop()


async def start_harness(harnesses: list[OutboxHarness], **options: Any) -> OutboxHarness:
    harness = OutboxHarness(**options)
    harnesses.append(harness)
    await harness.outbox.start()
    return harness


def ids(entry: dict[str, Any]) -> list[str]:
    return [message["id"] for message in entry["messages"]]
