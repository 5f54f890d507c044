"""The outbox over a real Redis. The database is empty and the rooms of the hub are real; the test acts as worker."""

import asyncio
from typing import Any

import pytest
from tests.work.outbox_fixtures import CHANNEL, OutboxHarness, Sender, harnesses, ids, start_harness

from channelbox.realtime import background_tasks, redis_keys, turn_scheduler
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Batch, BatchOutcome, Envelope, RoomRef
from channelbox.realtime.errors import Code, Refused
from channelbox.realtime.frames import json_frame
from channelbox.realtime.hub_room import HubRoom
from channelbox.work import outbox as outbox_module
from channelbox.work.outbox import MAX_BATCH


async def test_a_message_is_queued_and_its_outcome_empties_the_outbox(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses)
    harness.put("a")
    (entry,) = await harness.taken()
    assert (entry["type"], entry["room"], entry["key"], entry["process"], ids(entry)) == ("job", "r", 1, "me", ["a"])
    await harness.publish_outcome(entry)
    await harness.empty()


async def test_a_room_has_one_batch_in_flight_and_the_rest_waits_in_order(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses, expiry=5)
    harness.put("a", "b")
    (first,) = await harness.taken()
    harness.put("c", "d")
    assert await harness.layer.receive_many(CHANNEL, 10, 0.3) == []
    await harness.publish_outcome(first)
    (second,) = await harness.taken()
    assert ids(first) + ids(second) == ["a", "b", "c", "d"]


async def test_rooms_do_not_wait_for_each_other(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses)
    harness.put("a", room="one")
    harness.put("b", room="two")
    assert {entry["room"] for entry in await harness.taken()} == {"one", "two"}


async def test_a_room_that_cannot_be_opened_does_not_delay_others(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "REOPEN_SECONDS", 0.05)
    harness = await start_harness(harnesses)
    unavailable = True
    hold = harness.hub.hold

    async def hold_unless_unavailable(name: str) -> HubRoom:
        if name == "broken" and unavailable:
            raise Refused(Code.TRY_LATER, "The room cannot be opened just now.")
        return await hold(name)

    monkeypatch.setattr(harness.hub, "hold", hold_unless_unavailable)
    harness.put("a", room="broken")
    harness.put("b")
    assert [ids(entry) for entry in await harness.taken()] == [["b"]]
    unavailable = False
    entries = await harness.taken()
    assert ["a"] in [ids(entry) for entry in entries]


async def test_an_error_while_opening_a_room_is_counted_and_retried(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_tasks, "PAUSE_SECONDS", 0.01)
    harness = await start_harness(harnesses)
    hold, failures_left, before = harness.hub.hold, [1, 2], counters.restarted

    async def break_twice(name: str) -> HubRoom:
        if failures_left:
            failures_left.pop()
            raise ZeroDivisionError
        return await hold(name)

    monkeypatch.setattr(harness.hub, "hold", break_twice)
    harness.put("a")
    (entry,) = await harness.taken()
    assert counters.restarted == before + 2
    await harness.publish_outcome(entry)
    await harness.empty()


async def test_an_error_while_sending_is_counted_and_retried(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "REOPEN_SECONDS", 0.05)
    harness = await start_harness(harnesses)
    send, failures_left, before = harness.layer.send_many, [1], counters.restarted

    async def break_once(*args: Any, **kwargs: Any) -> None:
        if failures_left:
            failures_left.pop()
            raise ZeroDivisionError
        await send(*args, **kwargs)

    monkeypatch.setattr(harness.layer, "send_many", break_once)
    harness.put("a")
    assert [ids(entry) for entry in await harness.taken()] == [["a"]]
    assert counters.restarted == before + 1


async def test_a_batch_has_a_maximum_number_of_messages(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses)
    harness.put(*map(str, range(MAX_BATCH + 5)))
    (first,) = await harness.taken()
    await harness.publish_outcome(first)
    (second,) = await harness.taken()
    assert (len(first["messages"]), len(second["messages"])) == (MAX_BATCH, 5)


async def test_a_batch_without_an_outcome_is_sent_again_unchanged(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses)
    harness.put("a", "b")
    (first,) = await harness.taken()
    harness.put("c")
    (again,) = await harness.taken()
    assert again == first
    await harness.publish_outcome(again)
    (next_one,) = await harness.taken()
    assert ids(next_one) == ["c"]


async def test_a_message_that_was_stored_before_gets_a_stored_reply(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses)
    harness.put("a")
    harness.pretend_written(17)
    harness.put("b")
    (entry,) = await harness.taken()
    await harness.publish_outcome(entry, known={"a": 17, "b": 17})
    assert await harness.sender.next() == {"type": "stored", "id": "b", "seq": 17}
    await harness.empty()


async def test_no_stored_reply_is_sent_when_the_event_comes_later(harnesses: list[OutboxHarness]) -> None:
    """The connection joined at 16, and 17 is what it sent through another process: the event is the only answer."""
    harness = await start_harness(harnesses)
    harness.pretend_written(16)
    harness.put("a")
    (entry,) = await harness.taken()
    await harness.publish_outcome(entry, known={"a": 17})
    await harness.empty()
    assert harness.sender.received.empty()


async def test_no_stored_reply_is_sent_to_members_awaiting_the_event(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large room's event is written over several turns: only the sender that has it already gets a `stored` reply."""
    monkeypatch.setattr(turn_scheduler, "TURN_BYTES", 1)  # so one member in a turn
    harness = await start_harness(harnesses, expiry=5)
    harness.pretend_written(16)
    room = harness.hub.rooms["r"]
    members = [Sender() for _ in range(5)]
    for member in members:
        room.members.add(member)
    event = {"seq": 17}
    harness.hub.receive("r", room, Envelope(17, 17, json_frame(event), 1))
    while not any(member.received.qsize() for member in members):
        await asyncio.sleep(0)
    have = [member for member in members if member.received.qsize()]
    assert len(have) == 1
    for number, member in enumerate(members):
        harness.put(f"{number}", name=f"{number}", sender=member)
    (entry,) = await harness.taken()
    await harness.publish_outcome(entry, known=dict.fromkeys(ids(entry), 17))
    await harness.empty()
    for number, member in enumerate(members):
        assert await member.next() == event
        if member in have:
            assert await member.next() == {"type": "stored", "id": f"{number}", "seq": 17}
        assert member.received.empty()


async def test_a_refusal_reaches_its_sender_with_the_reason(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses, expiry=5)
    harness.put("a", "b")
    (entry,) = await harness.taken()
    await harness.publish_outcome(entry, refused={"a": ("not_allowed", "This room is closed.")})
    assert await harness.sender.next() == {"error": "This room is closed.", "code": "not_allowed", "id": "a"}
    await harness.empty()


async def test_senders_with_equal_message_ids_get_separate_outcomes(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses, expiry=5)
    bob = Sender()
    harness.put("1")
    harness.put("1", name="bob", sender=bob)
    (entry,) = await harness.taken()
    assert ids(entry) == ["1", "1"]
    batch = Batch.of(entry)
    outcome = BatchOutcome(batch.ref, [1, 0], refused={1: ("not_allowed", "This room is closed.")})
    await harness.bus.publish(redis_keys.room("r"), Envelope(1, 1, b"", 1, [outcome]).pack())
    assert (await bob.next())["code"] == "not_allowed"
    await harness.empty()
    assert harness.sender.received.empty()


async def test_a_repeated_outcome_is_ignored(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses)
    harness.pretend_written(1)
    harness.put("a")
    (entry,) = await harness.taken()
    for _ in range(2):
        await harness.publish_outcome(entry, known={"a": 1})
    await harness.publish_outcome(entry)
    await harness.empty()
    assert await harness.sender.next() == {"type": "stored", "id": "a", "seq": 1}
    harness.put("b")
    (entry,) = await harness.taken()
    assert ids(entry) == ["b"]
    assert harness.sender.received.empty()


async def test_a_deadline_and_an_outcome_in_one_turn_do_not_resend(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses, expiry=5)
    harness.put("a")
    (entry,) = await harness.taken()
    backlog = harness.outbox._backlogs[RoomRef(1, "r")]
    backlog.host_sender.add(backlog)  # the deadline
    harness.outbox.settle(BatchOutcome(Batch.of(entry).ref, [1]))
    harness.put("b")
    (entry,) = await harness.taken()
    assert ids(entry) == ["b"]
    assert await harness.layer.receive_many(CHANNEL, 10, 0.1) == []


async def test_a_resent_batch_gets_its_outcome_after_the_hub_dropped_the_room(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses, expiry=0.3)
    harness.put("a")
    (entry,) = await harness.taken()
    harness.hub.give_up("r", harness.hub.rooms["r"])  # as when the room was recreated
    (again,) = await harness.taken()
    assert again == entry
    await harness.publish_outcome(again, refused={"a": ("no_room", "There is no room r.")})
    assert (await harness.sender.next())["code"] == "no_room"
    await harness.empty()
    assert harness.hub.rooms["r"].holds == 0


async def test_a_message_sent_twice_in_flight_is_one_with_two_recipients(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses, expiry=5)
    harness.pretend_written(17)
    harness.put("a")
    (entry,) = await harness.taken()
    returned = Sender()
    harness.put("a", "b", sender=returned)
    harness.put("b", "b", sender=returned)
    assert await harness.layer.receive_many(CHANNEL, 10, 0.3) == []
    await harness.publish_outcome(entry, known={"a": 17})
    assert await harness.sender.next() == await returned.next() == {"type": "stored", "id": "a", "seq": 17}
    (entry,) = await harness.taken()
    assert ids(entry) == ["b"]
    await harness.publish_outcome(entry, 18)
    await harness.empty()


async def test_a_message_in_flight_can_be_sent_again_when_the_outbox_is_full(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses, max_messages=2)
    harness.put("a", "b")
    harness.put("a", "b")
    with pytest.raises(Refused):
        harness.put("a", name="bob")  # a new message: another sender's


async def test_a_room_stays_subscribed_while_a_batch_is_in_flight(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses)
    harness.put("a")
    (entry,) = await harness.taken()
    assert harness.hub.rooms["r"].holds == 1
    await harness.publish_outcome(entry)
    await harness.empty()
    assert harness.hub.rooms["r"].holds == 0


async def test_a_batch_is_delayed_where_several_messages_came_at_once(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "BATCH_DELAY_SECONDS", 0.2)
    monkeypatch.setattr(outbox_module, "MAX_BATCH_DELAY_SECONDS", 0.2)
    harness = await start_harness(harnesses)
    harness.put("a", "b")
    (entry,) = await harness.taken()
    await harness.publish_outcome(entry)
    await harness.empty()
    harness.put("c")
    assert await harness.layer.length(CHANNEL) == 0  # an answer from Redis: time enough to have been sent
    harness.put("d")
    (entry,) = await harness.taken()
    assert ids(entry) == ["c", "d"]


async def test_a_single_sender_is_not_delayed(harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "BATCH_DELAY_SECONDS", 60)
    monkeypatch.setattr(outbox_module, "MAX_BATCH_DELAY_SECONDS", 60)
    harness = await start_harness(harnesses)
    for number, id in enumerate("abc", 1):
        harness.put(id)
        (entry,) = await harness.taken()
        assert ids(entry) == [id]
        await harness.publish_outcome(entry, number)
        await harness.empty()
