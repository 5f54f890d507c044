"""The hub over real Redis: numbers that are no longer in the record."""

import asyncio
import json

import pytest
from tests.realtime.hub import Record, frames, gap, hub, joined, record, told

from channelbox.realtime import redis_keys, room_repairs
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.history_source import Observed
from channelbox.realtime.hub import Hub


@pytest.mark.parametrize("missing", [{97}, {100}, {51, 52, 53}, {51, 70, 71, 100}, set(range(40, 101))], ids=str)
async def test_a_room_with_missing_numbers_can_be_entered(hub: Hub, record: Record, missing: set[int]) -> None:
    record.last, record.missing = 100, missing
    newcomer = await joined(hub)
    assert newcomer.numbers == [n for n in range(51, 101) if n not in missing]
    returned = await joined(hub, after=60)
    assert returned.heard[0] == "welcome 100 True"
    assert returned.numbers == [n for n in range(61, 101) if n not in missing]
    told_gone = {n for each in returned.gaps for n in range(each["from"], each["to"] + 1)}
    assert told_gone == {n for n in missing if n > 60}
    assert all(each["gone"] for each in returned.gaps)


async def test_a_gap_stands_where_its_events_would_have_come(hub: Hub, record: Record) -> None:
    record.last, record.missing = 6, {3, 4}
    listener = await joined(hub, after=1)
    assert listener.heard[1:2] == ["2"]
    assert json.loads(listener.heard[2]) == gap(3, 4)
    assert listener.heard[3:] == ["5", "6"]


async def test_a_hole_that_is_not_in_the_record_is_stepped_over(hub: Hub, bus: Bus, record: Record) -> None:
    listener = await joined(hub)
    record.missing = {1, 2}
    await told(bus, record, 3, 4)
    await listener.until("4")
    assert listener.gaps == [gap(1, 2)]
    assert listener.numbers == [3, 4]
    later = await joined(hub, after=0)
    assert (later.gaps, later.numbers) == ([gap(1, 2)], [3, 4])


async def test_what_is_below_the_floor_is_gone(hub: Hub, record: Record) -> None:
    record.last, record.floor = 5000, 4990
    newcomer = await joined(hub)
    assert newcomer.numbers == list(range(4990, 5001))
    assert newcomer.gaps == []
    returned = await joined(hub, after=17)  # everything that is still there follows
    assert returned.heard[0] == "welcome 5000 True"
    assert returned.gaps == [gap(18, 4989)]
    assert returned.numbers == list(range(4990, 5001))


async def test_what_is_gone_and_what_is_too_much_are_told_apart(hub: Hub, record: Record) -> None:
    record.last, record.floor = 5000, 1000
    returned = await joined(hub, after=17)
    assert returned.heard[0] == "welcome 5000 False"
    assert returned.gaps == [gap(18, 999), {"type": "gap", "from": 1000, "to": 4950}]


async def test_a_number_that_is_not_in_the_record_is_not_looked_for_for_ever(
    hub: Hub, bus: Bus, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_repairs, "MAX_PAUSE_SECONDS", 0.1)
    listener = await joined(hub)
    room = hub.rooms["r"]
    await bus.publish(redis_keys.room("r"), Envelope(last=10**15).pack())
    await bus.publish(redis_keys.room("r"), Envelope(10**15, 10**15, frames(1, 1)).pack())
    async with asyncio.timeout(10):
        while not room.parked:
            await asyncio.sleep(0.01)
        while room.repair is not None:
            await asyncio.sleep(0.01)
    assert not room.parked
    await told(bus, record, 1, 2)
    await listener.until("2")
    assert listener.numbers == [1, 2]


async def test_a_hole_at_the_end_is_told_to_everybody_who_comes(hub: Hub, bus: Bus, record: Record) -> None:
    record.last = 10
    await joined(hub)
    record.last, record.missing = 15, {11, 12, 13, 14, 15}
    hub.observe("r", hub.rooms["r"], Observed(record.identity, 1, 15))
    async with asyncio.timeout(10):
        while hub.rooms["r"].seq < 15:
            await asyncio.sleep(0.01)
    returned = await joined(hub, after=8)
    assert (returned.numbers, returned.gaps) == ([9, 10], [gap(11, 15)])
