"""The hub over real Redis, while the record does not answer: what it keeps, and how much it asks for."""

import asyncio
import tracemalloc

import pytest
from tests.realtime.hub import Listener, Record, frames, greet, hub, joined, opening, record
from tests.support.waiting import until

from channelbox.realtime.envelope import BatchOutcome, BatchRef, Envelope
from channelbox.realtime.frames import text_frame
from channelbox.realtime.history_source import Identity, Observed
from channelbox.realtime.hub import Hub
from channelbox.realtime.hub_room import MAX_PARKED_BYTES, HubRoom, Run
from channelbox.realtime.room_repairs import MAX_REPAIRS, REORDER_SECONDS

__all__ = ["hub", "opening", "record"]

NAMES = [f"{'alice' * 10}-{number}" for number in range(200)]
OUTCOME = BatchOutcome(BatchRef("another process", 1), list(range(10**6, 10**6 + 500)))


@pytest.fixture
async def begun(hub: Hub, record: Record, opening: asyncio.Event) -> tuple[HubRoom, "asyncio.Task[Listener]"]:
    """A room that is not open yet, and who waits for it."""
    opening.clear()
    joining = asyncio.create_task(joined(hub))
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
async def test_what_a_room_hears_before_it_is_open_takes_a_bounded_memory(
    hub: Hub,
    record: Record,
    opening: asyncio.Event,
    begun: tuple[HubRoom, "asyncio.Task[Listener]"],
    envelope: Envelope,
    count: int,
) -> None:
    room, joining = begun
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


async def test_what_was_too_much_to_keep_before_a_room_was_open_is_read(
    hub: Hub, record: Record, opening: asyncio.Event, begun: tuple[HubRoom, "asyncio.Task[Listener]"]
) -> None:
    room, joining = begun
    for seq in range(1, 5001):
        hub.receive("r", room, Envelope(seq, seq, frames(seq, seq), 1, epoch="epoch"))
    opening.set()  # with what was said before all that
    listener = await joining
    kept = room.seq
    assert 50 < kept < 5000
    record.last = 5000
    await listener.until("5000")
    assert listener.numbers == list(range(kept - 49, 5001))


async def test_few_holes_are_read_at_one_time_however_many_rooms_have_one(
    hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = [f"room-{number}" for number in range(3 * MAX_REPAIRS)]
    listeners = [Listener() for _ in rooms]
    for name, listener in zip(rooms, listeners, strict=True):
        await hub.join(name, record.identity, listener, None, 50, greet)
    answer, go, reading, most = record.after, asyncio.Event(), 0, 0

    async def after(name: str, identity: Identity, seq: int, count: int) -> Run:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await go.wait()
        reading -= 1
        return await answer(name, identity, seq, count)

    monkeypatch.setattr(record, "after", after)
    record.last = 2
    for name in rooms:
        hub.observe(name, hub.rooms[name], Observed(record.identity, 1, 2))
    await until(lambda: reading >= MAX_REPAIRS)
    await asyncio.sleep(2 * REORDER_SECONDS)  # that every room waits before it reads
    hub.receive(rooms[-1], hub.rooms[rooms[-1]], Envelope(1, 2, frames(1, 2), 1))
    go.set()
    for listener in listeners:
        await listener.until("2")
        assert listener.numbers == [1, 2]
    assert most == MAX_REPAIRS
    assert record.reads == 2 * len(rooms) - 1, "each room was opened, and what was heard meanwhile is not read"
