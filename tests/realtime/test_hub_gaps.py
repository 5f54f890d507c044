"""The hub over real Redis: events that are no longer in the database."""

import asyncio
import json

import pytest
from tests.realtime.hub import FakeStore, frames, gap, hub, join, publish_events, store

from channelbox.realtime import redis_keys, room_repairs
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.history_source import Observed
from channelbox.realtime.hub import Hub


@pytest.mark.parametrize("missing", [{97}, {100}, {51, 52, 53}, {51, 70, 71, 100}, set(range(40, 101))], ids=str)
async def test_a_room_with_missing_events_can_be_joined(hub: Hub, store: FakeStore, missing: set[int]) -> None:
    store.last, store.missing = 100, missing
    newcomer = await join(hub)
    assert newcomer.numbers == [n for n in range(51, 101) if n not in missing]
    returned = await join(hub, after=60)
    assert returned.received[0] == "welcome 100 True"
    assert returned.numbers == [n for n in range(61, 101) if n not in missing]
    announced = {n for each in returned.gaps for n in range(each["from"], each["to"] + 1)}
    assert announced == {n for n in missing if n > 60}
    assert all(each["gone"] for each in returned.gaps)


async def test_a_gap_is_sent_in_place_of_its_missing_events(hub: Hub, store: FakeStore) -> None:
    store.last, store.missing = 6, {3, 4}
    listener = await join(hub, after=1)
    assert listener.received[1:2] == ["2"]
    assert json.loads(listener.received[2]) == gap(3, 4)
    assert listener.received[3:] == ["5", "6"]


async def test_a_hole_missing_in_the_database_becomes_a_gap(hub: Hub, bus: Bus, store: FakeStore) -> None:
    listener = await join(hub)
    store.missing = {1, 2}
    await publish_events(bus, store, 3, 4)
    await listener.until("4")
    assert listener.gaps == [gap(1, 2)]
    assert listener.numbers == [3, 4]
    later = await join(hub, after=0)
    assert (later.gaps, later.numbers) == ([gap(1, 2)], [3, 4])


async def test_events_below_the_floor_are_reported_as_gone(hub: Hub, store: FakeStore) -> None:
    store.last, store.floor = 5000, 4990
    newcomer = await join(hub)
    assert newcomer.numbers == list(range(4990, 5001))
    assert newcomer.gaps == []
    returned = await join(hub, after=17)  # all remaining events follow
    assert returned.received[0] == "welcome 5000 True"
    assert returned.gaps == [gap(18, 4989)]
    assert returned.numbers == list(range(4990, 5001))


async def test_deleted_and_skipped_events_are_separate_gaps(hub: Hub, store: FakeStore) -> None:
    store.last, store.floor = 5000, 1000
    returned = await join(hub, after=17)
    assert returned.received[0] == "welcome 5000 False"
    assert returned.gaps == [gap(18, 999), {"type": "gap", "from": 1000, "to": 4950}]


async def test_a_repair_gives_up_on_a_number_that_does_not_exist(
    hub: Hub, bus: Bus, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_repairs, "MAX_PAUSE_SECONDS", 0.1)
    listener = await join(hub)
    room = hub.rooms["r"]
    await bus.publish(redis_keys.room("r"), Envelope(last=10**15).pack())
    await bus.publish(redis_keys.room("r"), Envelope(10**15, 10**15, frames(1, 1)).pack())
    async with asyncio.timeout(10):
        while not room.parked:
            await asyncio.sleep(0.01)
        while room.repair is not None:
            await asyncio.sleep(0.01)
    assert not room.parked
    await publish_events(bus, store, 1, 2)
    await listener.until("2")
    assert listener.numbers == [1, 2]


async def test_a_hole_at_the_end_is_a_gap_for_clients_that_join_later(hub: Hub, bus: Bus, store: FakeStore) -> None:
    store.last = 10
    await join(hub)
    store.last, store.missing = 15, {11, 12, 13, 14, 15}
    hub.observe("r", hub.rooms["r"], Observed(store.identity, 1, 15))
    async with asyncio.timeout(10):
        while hub.rooms["r"].seq < 15:
            await asyncio.sleep(0.01)
    returned = await join(hub, after=8)
    assert (returned.numbers, returned.gaps) == ([9, 10], [gap(11, 15)])
