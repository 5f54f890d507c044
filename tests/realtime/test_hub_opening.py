"""The hub over real Redis, while the database does not answer: what it keeps, and how much it reads."""

import asyncio
import tracemalloc

import pytest
from tests.realtime.hub import FakeStore, Listener, frames, greet, hub, join, opening, store
from tests.support.waiting import until

from channelbox.realtime.envelope import BatchOutcome, BatchRef, Envelope
from channelbox.realtime.frames import text_frame
from channelbox.realtime.history_source import Identity, Observed
from channelbox.realtime.hub import Hub
from channelbox.realtime.hub_room import MAX_PARKED_BYTES, HubRoom, Run
from channelbox.realtime.room_repairs import MAX_REPAIRS, REORDER_SECONDS

__all__ = ["hub", "opening", "store"]

NAMES = [f"{'alice' * 10}-{number}" for number in range(200)]
OUTCOME = BatchOutcome(BatchRef("another process", 1), list(range(10**6, 10**6 + 500)))


@pytest.fixture
async def opening_room(
    hub: Hub, store: FakeStore, opening: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> tuple[HubRoom, "asyncio.Task[Listener]"]:
    """Return a room that is not open yet, and the task that joins it."""
    monkeypatch.setattr("channelbox.realtime.hub.OPEN_SECONDS", 120)  # a test may keep the event loop for long
    opening.clear()
    joining = asyncio.create_task(join(hub))
    await until(lambda: "r" in hub.rooms)
    return hub.rooms["r"], joining


@pytest.mark.parametrize(
    ("envelope", "count"),
    [
        (Envelope(last=1, key=1, epoch="epoch"), 20_000),
        (Envelope(outcomes=[OUTCOME]), 2_000),
        (Envelope(presence=("another process", NAMES, len(NAMES))), 2_000),
        (Envelope(frames=text_frame(b"typing")), 20_000),
        (Envelope(2, 2, b"", 1, replaced=[(1, text_frame(bytes(4000)))]), 2_000),
    ],
    ids=["number", "outcome", "presence", "typing", "replaced"],
)
async def test_publishes_received_before_opening_use_bounded_memory(
    hub: Hub,
    store: FakeStore,
    opening: asyncio.Event,
    opening_room: tuple[HubRoom, "asyncio.Task[Listener]"],
    envelope: Envelope,
    count: int,
) -> None:
    room, joining = opening_room
    payload = envelope.pack()
    tracemalloc.start()
    try:
        for _ in range(count):
            hub._payload("r", room, payload)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    opening.set()
    await joining
    assert kept < 1.2 * MAX_PARKED_BYTES


async def test_publishes_dropped_before_opening_are_read_later(
    hub: Hub, store: FakeStore, opening: asyncio.Event, opening_room: tuple[HubRoom, "asyncio.Task[Listener]"]
) -> None:
    room, joining = opening_room
    for seq in range(1, 5001):
        hub.receive("r", room, Envelope(seq, seq, frames(seq, seq), 1, epoch="epoch"))
    opening.set()  # the store answers with the state before these events
    listener = await joining
    kept = room.seq
    assert 50 < kept < 5000
    store.last = 5000
    await listener.until("5000")
    assert listener.numbers == list(range(kept - 49, 5001))


async def test_the_number_of_concurrent_repairs_is_limited(
    hub: Hub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = [f"room-{number}" for number in range(3 * MAX_REPAIRS)]
    listeners = [Listener() for _ in rooms]
    for name, listener in zip(rooms, listeners, strict=True):
        await hub.join(name, store.identity, listener, None, 50, greet)
    original, proceed, reading, peak = store.after, asyncio.Event(), 0, 0

    async def after(name: str, identity: Identity, seq: int, count: int) -> Run:
        nonlocal reading, peak
        reading += 1
        peak = max(peak, reading)
        await proceed.wait()
        reading -= 1
        return await original(name, identity, seq, count)

    monkeypatch.setattr(store, "after", after)
    store.last = 2
    for name in rooms:
        hub.observe(name, hub.rooms[name], Observed(store.identity, 1, 2))
    await until(lambda: reading >= MAX_REPAIRS)
    await asyncio.sleep(2 * REORDER_SECONDS)  # the time that each room waits before it reads
    hub.receive(rooms[-1], hub.rooms[rooms[-1]], Envelope(1, 2, frames(1, 2), 1))
    proceed.set()
    for listener in listeners:
        await listener.until("2")
        assert listener.numbers == [1, 2]
    assert peak == MAX_REPAIRS
    assert store.reads == 2 * len(rooms) - 1, "one read opens each room, and events received meanwhile are not read"
