"""The hub over real Redis: every member receives what is published in order and once."""

import asyncio
import random

import pytest
from tests.realtime.hub import FakeStore, frames, hub, join, publish_events, store

from channelbox.realtime import hub_room as room_module
from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import BatchOutcome, BatchRef, Envelope
from channelbox.realtime.frames import text_frame
from channelbox.realtime.history_source import Observed
from channelbox.realtime.hub import Hub


async def test_a_member_receives_published_events_in_order(hub: Hub, bus: Bus, store: FakeStore) -> None:
    listener = await join(hub)
    await publish_events(bus, store, 1, 1)
    await publish_events(bus, store, 2, 4)
    await listener.until("4")
    assert listener.received == ["welcome 0 False", "1", "2", "3", "4"]


async def test_reordered_duplicate_and_lost_publishes_are_corrected(hub: Hub, bus: Bus, store: FakeStore) -> None:
    draw = random.Random(7)
    listeners = [await join(hub) for _ in range(5)]
    runs, last = [], 0
    while last < 300:
        size = draw.randint(1, 4)
        runs.append((last + 1, last + size))
        last += size
    store.last = last
    lost = draw.sample(runs[:-1], 20)
    sent = [run for run in runs if run not in lost] + draw.sample(runs, 20)
    sent.sort(key=lambda run: run[0] + draw.randint(-10, 10))
    for run in [*sent, runs[-1]]:
        await publish_events(bus, store, *run)
    for listener in listeners:
        await listener.until(str(last))
        assert listener.numbers == list(range(1, last + 1))


async def test_a_hole_is_read_once_for_all_members(hub: Hub, bus: Bus, store: FakeStore) -> None:
    listeners = [await join(hub) for _ in range(50)]
    reads = store.reads
    store.last = 10
    await publish_events(bus, store, 11, 11)
    for listener in listeners:
        await listener.until("11")
        assert listener.numbers == list(range(1, 12))
    assert store.reads == reads + 1


async def test_a_repair_continues_after_database_errors(hub: Hub, bus: Bus, store: FakeStore) -> None:
    listener = await join(hub)
    store.failures = 3
    store.last = 2
    await publish_events(bus, store, 3, 3)
    await listener.until("3")
    assert listener.numbers == [1, 2, 3]
    store.last = 4
    await publish_events(bus, store, 5, 5)
    await listener.until("5")


async def test_a_room_observed_to_be_behind_is_repaired(hub: Hub, store: FakeStore) -> None:
    listener = await join(hub)
    store.last = 6
    hub.observe("r", hub.rooms["r"], Observed(store.identity, 1, 6))
    await listener.until("6")
    assert listener.numbers == [1, 2, 3, 4, 5, 6]


async def test_a_publish_without_frames_triggers_a_read(hub: Hub, bus: Bus, store: FakeStore) -> None:
    listener = await join(hub)
    store.last = 2
    await bus.publish(redis_keys.room("r"), Envelope(last=2).pack())
    await listener.until("2")


async def test_overlapping_runs_are_written_once(hub: Hub, bus: Bus, store: FakeStore) -> None:
    listener = await join(hub)
    for run in ((1, 3), (2, 5), (4, 6), (1, 7)):
        await publish_events(bus, store, *run)
    await listener.until("7")
    assert listener.numbers == [1, 2, 3, 4, 5, 6, 7]


async def test_on_outcome_receives_only_outcomes_for_this_process(hub: Hub, bus: Bus, store: FakeStore) -> None:
    outcomes: list[BatchOutcome] = []
    hub.on_outcome = outcomes.append
    listener = await join(hub)
    mine = BatchOutcome(BatchRef("me", 5), [1, 7, 0], frozenset({1}), {2: ("refused", "No.")})
    await publish_events(bus, store, 1, 1, mine, BatchOutcome(BatchRef("other", 6), [1]))
    await listener.until("1")
    assert outcomes == [mine]


async def test_frames_without_a_number_are_written(hub: Hub, bus: Bus) -> None:
    listener = await join(hub)
    await bus.publish(redis_keys.room("r"), Envelope(frames=text_frame(b"typing")).pack())
    await listener.until("typing")


async def test_a_member_that_left_receives_nothing_more(hub: Hub, bus: Bus, store: FakeStore) -> None:
    gone, stays = await join(hub), await join(hub)
    hub.leave("r", gone)
    await publish_events(bus, store, 1, 1)
    await stays.until("1")
    assert gone.numbers == []


async def test_publishes_of_one_turn_are_sent_in_one_write(
    hub: Hub, bus: Bus, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    listener = await join(hub)
    monkeypatch.setattr(listener, "write_frames", writes.append)
    room = hub.rooms["r"]
    for seq in range(1, 11):
        hub.receive("r", room, Envelope(seq, seq, frames(seq, seq)))
    await asyncio.sleep(0)
    assert writes == [frames(1, 10)]


async def test_events_parked_behind_a_hole_are_bounded(
    hub: Hub, bus: Bus, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_module, "MAX_PARKED_BYTES", 100)
    listener = await join(hub)
    room = hub.rooms["r"]
    store.failures = 1_000_000
    store.last = 1000
    for seq in range(2, 1001):  # the first was lost
        hub.receive("r", room, Envelope(seq, seq, frames(seq, seq), 1))
    assert len(room.parked) < 50
    store.failures = 0
    await listener.until("1000")
    assert listener.numbers == list(range(1, 1001))
