"""The hub over real Redis: what is published reaches each member in order and once."""

import asyncio
import random

import pytest
from tests.realtime.hub import Record, frames, hub, joined, record, told

from channelbox.realtime import hub_room as room_module
from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import BatchOutcome, BatchRef, Envelope
from channelbox.realtime.frames import text_frame
from channelbox.realtime.history_source import Observed
from channelbox.realtime.hub import Hub


async def test_it_works(hub: Hub, bus: Bus, record: Record) -> None:
    listener = await joined(hub)
    await told(bus, record, 1, 1)
    await told(bus, record, 2, 4)
    await listener.until("4")
    assert listener.heard == ["welcome 0 False", "1", "2", "3", "4"]


async def test_crossed_doubled_and_lost_publishes_come_in_order_without_gap_or_double(
    hub: Hub, bus: Bus, record: Record
) -> None:
    draw = random.Random(7)
    listeners = [await joined(hub) for _ in range(5)]
    runs, last = [], 0
    while last < 300:
        size = draw.randint(1, 4)
        runs.append((last + 1, last + size))
        last += size
    record.last = last
    lost = draw.sample(runs[:-1], 20)
    sent = [run for run in runs if run not in lost] + draw.sample(runs, 20)
    sent.sort(key=lambda run: run[0] + draw.randint(-10, 10))
    for run in [*sent, runs[-1]]:
        await told(bus, record, *run)
    for listener in listeners:
        await listener.until(str(last))
        assert listener.numbers == list(range(1, last + 1))


async def test_a_hole_is_read_once_for_all_members(hub: Hub, bus: Bus, record: Record) -> None:
    listeners = [await joined(hub) for _ in range(50)]
    reads = record.reads
    record.last = 10
    await told(bus, record, 11, 11)
    for listener in listeners:
        await listener.until("11")
        assert listener.numbers == list(range(1, 12))
    assert record.reads == reads + 1


async def test_a_repair_goes_on_after_the_record_has_failed(hub: Hub, bus: Bus, record: Record) -> None:
    listener = await joined(hub)
    record.failures = 3
    record.last = 2
    await told(bus, record, 3, 3)
    await listener.until("3")
    assert listener.numbers == [1, 2, 3]
    record.last = 4
    await told(bus, record, 5, 5)
    await listener.until("5")


async def test_a_room_known_to_be_behind_is_repaired(hub: Hub, record: Record) -> None:
    listener = await joined(hub)
    record.last = 6
    hub.observe("r", hub.rooms["r"], Observed(record.identity, 1, 6))
    await listener.until("6")
    assert listener.numbers == [1, 2, 3, 4, 5, 6]


async def test_a_publish_that_only_tells_the_newest_number_is_a_hint_to_read(
    hub: Hub, bus: Bus, record: Record
) -> None:
    listener = await joined(hub)
    record.last = 2
    await bus.publish(redis_keys.room("r"), Envelope(last=2).pack())
    await listener.until("2")


async def test_runs_that_overlap_are_written_once(hub: Hub, bus: Bus, record: Record) -> None:
    listener = await joined(hub)
    for run in ((1, 3), (2, 5), (4, 6), (1, 7)):
        await told(bus, record, *run)
    await listener.until("7")
    assert listener.numbers == [1, 2, 3, 4, 5, 6, 7]


async def test_the_outcomes_of_the_own_batches_are_handed_over(hub: Hub, bus: Bus, record: Record) -> None:
    heard: list[BatchOutcome] = []
    hub.on_outcome = heard.append
    listener = await joined(hub)
    mine = BatchOutcome(BatchRef("me", 5), [1, 7, 0], frozenset({1}), {2: ("refused", "No.")})
    await told(bus, record, 1, 1, mine, BatchOutcome(BatchRef("other", 6), [1]))
    await listener.until("1")
    assert heard == [mine]


async def test_frames_without_a_number_go_out_at_once(hub: Hub, bus: Bus) -> None:
    listener = await joined(hub)
    await bus.publish(redis_keys.room("r"), Envelope(frames=text_frame(b"typing")).pack())
    await listener.until("typing")


async def test_a_member_that_left_hears_no_more(hub: Hub, bus: Bus, record: Record) -> None:
    gone, stays = await joined(hub), await joined(hub)
    hub.leave("r", gone)
    await told(bus, record, 1, 1)
    await stays.until("1")
    assert gone.numbers == []


async def test_what_comes_in_one_turn_goes_out_in_one_write(
    hub: Hub, bus: Bus, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    listener = await joined(hub)
    monkeypatch.setattr(listener, "write_frames", writes.append)
    room = hub.rooms["r"]
    for seq in range(1, 11):
        hub.receive("r", room, Envelope(seq, seq, frames(seq, seq)))
    await asyncio.sleep(0)
    assert writes == [frames(1, 10)]


async def test_what_waits_for_a_hole_to_be_read_is_bounded(
    hub: Hub, bus: Bus, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_module, "MAX_PARKED_BYTES", 100)
    person = await joined(hub)
    room = hub.rooms["r"]
    record.failures = 1_000_000
    record.last = 1000
    for seq in range(2, 1001):  # the first was lost
        hub.receive("r", room, Envelope(seq, seq, frames(seq, seq), 1))
    assert len(room.parked) < 50
    record.failures = 0
    await person.until("1000")
    assert person.numbers == list(range(1, 1001))
