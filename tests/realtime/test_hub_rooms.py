"""The hub over real Redis: rooms open and close, are removed and made anew, and restored."""

import asyncio

import pytest
from tests.realtime.hub import NEW, Record, frames, hub, joined, opening, record, told
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


async def test_a_room_that_was_removed_and_made_anew_begins_anew(hub: Hub, bus: Bus, record: Record) -> None:
    replaced: list[int] = []
    hub.on_replaced = replaced.append
    record.last = 100
    old = await joined(hub)
    before, former = counters.rooms, record.identity
    record.identity, record.last = NEW, 0
    new = [await joined(hub), await joined(hub, after=100)]
    assert [each.heard for each in new] == [["welcome 0 False"]] * 2
    assert replaced == [1], "whose members have to go"
    await told(bus, record, 1, 1)
    for each in new:
        await each.until("1")
    assert old.numbers == list(range(51, 101))
    hub.leave("r", old)
    assert len(hub.rooms["r"].members) == 2
    assert counters.rooms == before
    with pytest.raises(Refused) as refused:  # looked up before it was removed
        await joined(hub, identity=former)
    assert refused.value.close == Close.TRY_LATER
    assert len(hub.rooms["r"].members) == 2


async def test_a_restored_backup_is_not_spliced_onto_what_was_said_after_it(hub: Hub, bus: Bus, record: Record) -> None:
    record.last = 15
    await joined(hub)
    record.identity, record.last = Identity(1, "another epoch"), 10
    hub.observe("r", hub.rooms["r"], Observed(record.identity, 1, 10))
    assert "r" not in hub.rooms
    listener = await joined(hub)
    await told(bus, record, 11, 11)
    await listener.until("11")
    assert listener.numbers == list(range(1, 12))


async def test_what_is_published_for_the_former_room_of_a_name_is_not_written_in_the_new_one(
    hub: Hub, bus: Bus, record: Record
) -> None:
    listener = await joined(hub)
    late = Envelope(1, 3, frames(1, 3), key=99)
    await bus.publish(redis_keys.room("r"), late.pack())
    await told(bus, record, 1, 1)
    await listener.until("1")
    await told(bus, record, 2, 2)
    await listener.until("2")
    assert listener.numbers == [1, 2]


async def test_what_is_published_late_under_the_epoch_before_a_restore_is_not_written(
    hub: Hub, bus: Bus, record: Record
) -> None:
    """A worker commits, and publishes only after a backup was put back: the room has the same key."""
    record.last = 5
    await joined(hub)
    late = Envelope(6, 6, text_frame(b"another 6"), record.identity.key, epoch=record.identity.epoch)
    record.identity = Identity(record.identity.key, "another epoch")
    hub.observe("r", hub.rooms["r"], Observed(record.identity, 1, 5))
    listener = await joined(hub)
    await bus.publish(redis_keys.room("r"), late.pack())
    await told(bus, record, 6, 6)
    await listener.until("6")
    assert listener.heard[1:] == ["1", "2", "3", "4", "5", "6"]


async def test_what_is_heard_late_before_a_room_is_opened_is_not_looked_for(
    hub: Hub, bus: Bus, record: Record, opening: asyncio.Event
) -> None:
    opening.clear()
    joining = asyncio.create_task(joined(hub))
    await until(lambda: "r" in hub.rooms)
    room = hub.rooms["r"]
    hub.receive("r", room, Envelope(6, 6, text_frame(b"another 6"), record.identity.key, epoch="epoch before"))
    opening.set()
    await joining
    assert (room.known, room.repair) == (0, None)


async def test_a_publish_under_a_new_epoch_has_the_room_opened_anew(hub: Hub, bus: Bus, record: Record) -> None:
    """It is found at once, before the record is compared."""
    record.last = 5
    await joined(hub)
    before = hub.rooms["r"]
    record.identity = Identity(record.identity.key, "another epoch")
    await told(bus, record, 6, 6)
    await until(lambda: hub.rooms.get("r") is not before)
    assert (await joined(hub)).numbers == [1, 2, 3, 4, 5, 6]
    assert before.seq == 5


async def test_what_is_in_the_record_is_read_though_another_epoch_was_published_with_it(
    hub: Hub, bus: Bus, record: Record
) -> None:
    """The epoch was drawn while the worker stored."""
    listener = await joined(hub)
    record.last = 1
    await bus.publish(
        redis_keys.room("r"), Envelope(1, 1, frames(1, 1), record.identity.key, epoch="epoch before").pack()
    )
    await listener.until("1")
    assert listener.numbers == [1]


async def test_a_publish_that_says_nothing_of_the_epoch_is_taken(hub: Hub, bus: Bus, record: Record) -> None:
    """That of a worker of the version before."""
    listener = await joined(hub)
    await bus.publish(redis_keys.room("r"), Envelope(1, 1, frames(1, 1), record.identity.key).pack())
    await listener.until("1")


async def test_a_room_that_cannot_be_opened_is_told_and_can_be_tried_again(hub: Hub, record: Record) -> None:
    record.failures = 1
    with pytest.raises(Refused) as refused:
        await joined(hub)
    assert refused.value.close == Close.TRY_LATER
    assert not hub.rooms
    assert (await joined(hub)).heard == ["welcome 0 False"]


async def test_an_empty_room_is_closed_after_a_while_and_opens_again(
    hub: Hub, bus: Bus, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 0.0)
    listener = await joined(hub)
    hub.leave("r", listener)
    async with asyncio.timeout(5):
        while hub.rooms:
            await asyncio.sleep(0.01)
    again = await joined(hub)
    await told(bus, record, 1, 1)
    await again.until("1")
    assert listener.numbers == []


async def test_an_answer_that_is_older_than_a_room_says_nothing_of_it(hub: Hub, bus: Bus, record: Record) -> None:
    await joined(hub)
    before = hub.rooms["r"]
    record.identity, record.last = NEW, 0
    person = await joined(hub)
    hub.observe("r", before, NO_ROOM)
    await told(bus, record, 1, 1)
    await person.until("1")


async def test_a_member_of_a_room_that_is_no_more_is_sent_away(
    hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "ORPHANED_SECONDS", 0.01)
    person = await joined(hub)
    hub.observe("r", hub.rooms["r"], NO_ROOM)
    await person.until("restart")


async def test_nothing_of_another_room_of_the_name_is_read_for_the_members(hub: Hub, record: Record) -> None:
    record.last = 10
    person = await joined(hub)
    room = hub.rooms["r"]
    record.identity, record.last = NEW, 14
    room.known = 12  # heard of, and not heard
    hub._repairs.advance("r", room)
    reads = record.reads
    async with asyncio.timeout(10):
        while record.reads == reads:
            await asyncio.sleep(0.01)
    assert person.numbers == list(range(1, 11))
