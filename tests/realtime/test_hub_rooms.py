"""The hub over real Redis: rooms are opened, closed, deleted, recreated and restored from a backup."""

import asyncio

import pytest
from tests.realtime.hub import NEW, FakeStore, frames, hub, join, opening, publish_events, store
from tests.support.waiting import until

from channelbox.realtime import hub as hub_module
from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.errors import Close, Refused
from channelbox.realtime.frames import text_frame
from channelbox.realtime.history_source import NO_ROOM, Identity, Observed
from channelbox.realtime.hub import Hub


async def test_a_recreated_room_starts_without_history(hub: Hub, bus: Bus, store: FakeStore) -> None:
    replaced: list[int] = []
    hub.on_replaced = replaced.append
    store.last = 100
    old = await join(hub)
    before, former = counters.rooms, store.identity
    store.identity, store.last = NEW, 0
    new = [await join(hub), await join(hub, after=100)]
    assert [each.received for each in new] == [["welcome 0 False"]] * 2
    assert replaced == [1], "the members of the former room must leave"
    await publish_events(bus, store, 1, 1)
    for each in new:
        await each.until("1")
    assert old.numbers == list(range(51, 101))
    hub.leave("r", old)
    assert len(hub.rooms["r"].members) == 2
    assert counters.rooms == before
    with pytest.raises(Refused) as refused:  # looked up before the room was deleted
        await join(hub, identity=former)
    assert refused.value.close == Close.TRY_LATER
    assert len(hub.rooms["r"].members) == 2


async def test_a_restored_backup_is_not_mixed_with_later_events(hub: Hub, bus: Bus, store: FakeStore) -> None:
    store.last = 15
    await join(hub)
    store.identity, store.last = Identity(1, "another epoch"), 10
    hub.observe("r", hub.rooms["r"], Observed(store.identity, 1, 10))
    assert "r" not in hub.rooms
    listener = await join(hub)
    await publish_events(bus, store, 11, 11)
    await listener.until("11")
    assert listener.numbers == list(range(1, 12))


async def test_late_publishes_of_a_deleted_room_do_not_reach_the_new_room(hub: Hub, bus: Bus, store: FakeStore) -> None:
    listener = await join(hub)
    late = Envelope(1, 3, frames(1, 3), key=99)
    await bus.publish(redis_keys.room("r"), late.pack())
    await publish_events(bus, store, 1, 1)
    await listener.until("1")
    await publish_events(bus, store, 2, 2)
    await listener.until("2")
    assert listener.numbers == [1, 2]


async def test_late_publishes_from_before_a_restore_are_not_delivered(hub: Hub, bus: Bus, store: FakeStore) -> None:
    """A worker commits, and publishes only after a backup was restored: the room still has the same key."""
    store.last = 5
    await join(hub)
    late = Envelope(6, 6, text_frame(b"another 6"), store.identity.key, epoch=store.identity.epoch)
    store.identity = Identity(store.identity.key, "another epoch")
    hub.observe("r", hub.rooms["r"], Observed(store.identity, 1, 5))
    listener = await join(hub)
    await bus.publish(redis_keys.room("r"), late.pack())
    await publish_events(bus, store, 6, 6)
    await listener.until("6")
    assert listener.received[1:] == ["1", "2", "3", "4", "5", "6"]


async def test_a_late_publish_received_during_opening_starts_no_repair(
    hub: Hub, bus: Bus, store: FakeStore, opening: asyncio.Event
) -> None:
    opening.clear()
    joining = asyncio.create_task(join(hub))
    await until(lambda: "r" in hub.rooms)
    room = hub.rooms["r"]
    hub.receive("r", room, Envelope(6, 6, text_frame(b"another 6"), store.identity.key, epoch="epoch before"))
    opening.set()
    await joining
    assert (room.known, room.repair) == (0, None)


async def test_a_publish_with_a_new_epoch_reopens_the_room(hub: Hub, bus: Bus, store: FakeStore) -> None:
    """This happens at once, before the next comparison with the database."""
    store.last = 5
    await join(hub)
    before = hub.rooms["r"]
    store.identity = Identity(store.identity.key, "another epoch")
    await publish_events(bus, store, 6, 6)
    await until(lambda: hub.rooms.get("r") is not before)
    assert (await join(hub)).numbers == [1, 2, 3, 4, 5, 6]
    assert before.seq == 5


async def test_stored_events_published_with_another_epoch_are_read(hub: Hub, bus: Bus, store: FakeStore) -> None:
    """The epoch changed while the worker stored the event."""
    listener = await join(hub)
    store.last = 1
    await bus.publish(
        redis_keys.room("r"), Envelope(1, 1, frames(1, 1), store.identity.key, epoch="epoch before").pack()
    )
    await listener.until("1")
    assert listener.numbers == [1]


async def test_a_publish_without_an_epoch_is_accepted(hub: Hub, bus: Bus, store: FakeStore) -> None:
    """Workers of the previous version publish none."""
    listener = await join(hub)
    await bus.publish(redis_keys.room("r"), Envelope(1, 1, frames(1, 1), store.identity.key).pack())
    await listener.until("1")


async def test_a_failed_opening_refuses_the_join_and_can_be_retried(hub: Hub, store: FakeStore) -> None:
    store.failures = 1
    with pytest.raises(Refused) as refused:
        await join(hub)
    assert refused.value.close == Close.TRY_LATER
    assert not hub.rooms
    assert (await join(hub)).received == ["welcome 0 False"]


async def test_an_empty_room_is_closed_and_can_be_reopened(
    hub: Hub, bus: Bus, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 0.0)
    listener = await join(hub)
    hub.leave("r", listener)
    async with asyncio.timeout(5):
        while hub.rooms:
            await asyncio.sleep(0.01)
    again = await join(hub)
    await publish_events(bus, store, 1, 1)
    await again.until("1")
    assert listener.numbers == []


async def test_an_observation_of_the_former_room_does_not_affect_the_new_one(
    hub: Hub, bus: Bus, store: FakeStore
) -> None:
    await join(hub)
    before = hub.rooms["r"]
    store.identity, store.last = NEW, 0
    listener = await join(hub)
    hub.observe("r", before, NO_ROOM)
    await publish_events(bus, store, 1, 1)
    await listener.until("1")


async def test_members_of_a_deleted_room_are_disconnected(
    hub: Hub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "ORPHANED_SECONDS", 0.01)
    listener = await join(hub)
    hub.observe("r", hub.rooms["r"], NO_ROOM)
    await listener.until("restart")


async def test_members_receive_no_events_of_another_room_of_the_same_name(hub: Hub, store: FakeStore) -> None:
    store.last = 10
    listener = await join(hub)
    room = hub.rooms["r"]
    store.identity, store.last = NEW, 14
    room.known = 12  # announced, but not received
    hub._repairs.advance("r", room)
    reads = store.reads
    async with asyncio.timeout(10):
        while store.reads == reads:
            await asyncio.sleep(0.01)
    assert listener.numbers == list(range(1, 11))
