"""The outbox over real Redis. The hub's record is empty and its rooms are real; the test is the worker."""

import asyncio
from typing import Any

import pytest
from tests.work.outbox_line import CHANNEL, Line, Sender, ids, lines, started

from channelbox.realtime import background_tasks, redis_keys, turn_scheduler
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Batch, BatchOutcome, Envelope, RoomRef
from channelbox.realtime.errors import Code, Refused
from channelbox.realtime.frames import json_frame
from channelbox.realtime.hub_room import HubRoom
from channelbox.work import outbox as outbox_module
from channelbox.work.outbox import MAX_BATCH


async def test_it_works(lines: list[Line]) -> None:
    line = await started(lines)
    line.put("a")
    (entry,) = await line.taken()
    assert (entry["type"], entry["room"], entry["key"], entry["process"], ids(entry)) == ("job", "r", 1, "me", ["a"])
    await line.settled(entry)
    await line.empty()


async def test_one_batch_of_a_room_is_in_flight_and_the_rest_waits_in_order(lines: list[Line]) -> None:
    line = await started(lines, expiry=5)
    line.put("a", "b")
    (first,) = await line.taken()
    line.put("c", "d")
    assert await line.layer.receive_many(CHANNEL, 10, 0.3) == []
    await line.settled(first)
    (second,) = await line.taken()
    assert ids(first) + ids(second) == ["a", "b", "c", "d"]


async def test_rooms_do_not_wait_for_each_other(lines: list[Line]) -> None:
    line = await started(lines)
    line.put("a", room="one")
    line.put("b", room="two")
    assert {entry["room"] for entry in await line.taken()} == {"one", "two"}


async def test_a_room_that_cannot_be_opened_holds_up_no_other(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "REOPEN_SECONDS", 0.05)
    line = await started(lines)
    away = True
    hold = line.hub.hold

    async def sometimes(name: str) -> HubRoom:
        if name == "broken" and away:
            raise Refused(Code.TRY_LATER, "The room cannot be opened just now.")
        return await hold(name)

    monkeypatch.setattr(line.hub, "hold", sometimes)
    line.put("a", room="broken")
    line.put("b")
    assert [ids(entry) for entry in await line.taken()] == [["b"]]
    away = False
    entries = await line.taken()
    assert ["a"] in [ids(entry) for entry in entries]


async def test_an_opening_that_breaks_is_counted_and_tried_again(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_tasks, "PAUSE_SECONDS", 0.01)
    line = await started(lines)
    hold, failures, before = line.hub.hold, [1, 2], counters.restarted

    async def break_twice(name: str) -> HubRoom:
        if failures:
            failures.pop()
            raise ZeroDivisionError
        return await hold(name)

    monkeypatch.setattr(line.hub, "hold", break_twice)
    line.put("a")
    (entry,) = await line.taken()
    assert counters.restarted == before + 2
    await line.settled(entry)
    await line.empty()


async def test_a_sending_that_breaks_is_counted_and_done_again(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "REOPEN_SECONDS", 0.05)
    line = await started(lines)
    send, failures, before = line.layer.send_many, [1], counters.restarted

    async def break_once(*args: Any, **kwargs: Any) -> None:
        if failures:
            failures.pop()
            raise ZeroDivisionError
        await send(*args, **kwargs)

    monkeypatch.setattr(line.layer, "send_many", break_once)
    line.put("a")
    assert [ids(entry) for entry in await line.taken()] == [["a"]]
    assert counters.restarted == before + 1


async def test_a_batch_is_bounded(lines: list[Line]) -> None:
    line = await started(lines)
    line.put(*map(str, range(MAX_BATCH + 5)))
    (first,) = await line.taken()
    await line.settled(first)
    (second,) = await line.taken()
    assert (len(first["messages"]), len(second["messages"])) == (MAX_BATCH, 5)


async def test_what_nobody_answers_is_sent_again_as_it_was(lines: list[Line]) -> None:
    line = await started(lines)
    line.put("a", "b")
    (first,) = await line.taken()
    line.put("c")
    (again,) = await line.taken()
    assert again == first
    await line.settled(again)
    (next_one,) = await line.taken()
    assert ids(next_one) == ["c"]


async def test_stored_before_is_told_to_its_sender_and_ends_the_batch(lines: list[Line]) -> None:
    line = await started(lines)
    line.put("a")
    line.sees(17)
    line.put("b")
    (entry,) = await line.taken()
    await line.settled(entry, known={"a": 17, "b": 17})
    assert await line.sender.next() == {"type": "stored", "id": "b", "seq": 17}
    await line.empty()


async def test_known_is_not_told_where_the_event_itself_comes_after_the_sending(lines: list[Line]) -> None:
    """The connection joined at 16, and 17 is what it sent through another process: the event is the only answer."""
    line = await started(lines)
    line.sees(16)
    line.put("a")
    (entry,) = await line.taken()
    await line.settled(entry, known={"a": 17})
    await line.empty()
    assert line.sender.told.empty()


async def test_known_is_not_told_where_the_event_is_still_to_be_written(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a large room an event is written over several turns: who has it already is told, for the others it comes."""
    monkeypatch.setattr(turn_scheduler, "TURN_BYTES", 1)  # so one member in a turn
    line = await started(lines, expiry=5)
    line.sees(16)
    room = line.hub.rooms["r"]
    members = [Sender() for _ in range(5)]
    for member in members:
        room.members.add(member)
    event = {"seq": 17}
    line.hub.receive("r", room, Envelope(17, 17, json_frame(event), 1))
    while not any(member.told.qsize() for member in members):
        await asyncio.sleep(0)
    have = [member for member in members if member.told.qsize()]
    assert len(have) == 1
    for number, member in enumerate(members):
        line.put(f"{number}", who=f"{number}", sender=member)
    (entry,) = await line.taken()
    await line.settled(entry, known=dict.fromkeys(ids(entry), 17))
    await line.empty()
    for number, member in enumerate(members):
        assert await member.next() == event
        if member in have:
            assert await member.next() == {"type": "stored", "id": f"{number}", "seq": 17}
        assert member.told.empty()


async def test_refused_is_told_with_its_reason_and_the_rest_is_stored(lines: list[Line]) -> None:
    line = await started(lines, expiry=5)
    line.put("a", "b")
    (entry,) = await line.taken()
    await line.settled(entry, refused={"a": ("not_allowed", "This room is closed.")})
    assert await line.sender.next() == {"error": "This room is closed.", "code": "not_allowed", "id": "a"}
    await line.empty()


async def test_two_senders_with_the_same_id_have_an_outcome_each(lines: list[Line]) -> None:
    line = await started(lines, expiry=5)
    ben = Sender()
    line.put("1")
    line.put("1", who="ben", sender=ben)
    (entry,) = await line.taken()
    assert ids(entry) == ["1", "1"]
    batch = Batch.of(entry)
    outcome = BatchOutcome(batch.ref, [1, 0], refused={1: ("not_allowed", "This room is closed.")})
    await line.bus.publish(redis_keys.room("r"), Envelope(1, 1, b"", 1, [outcome]).pack())
    assert (await ben.next())["code"] == "not_allowed"
    await line.empty()
    assert line.sender.told.empty()


async def test_a_second_outcome_changes_nothing(lines: list[Line]) -> None:
    line = await started(lines)
    line.sees(1)
    line.put("a")
    (entry,) = await line.taken()
    for _ in range(2):
        await line.settled(entry, known={"a": 1})
    await line.settled(entry)
    await line.empty()
    assert await line.sender.next() == {"type": "stored", "id": "a", "seq": 1}
    line.put("b")
    (entry,) = await line.taken()
    assert ids(entry) == ["b"]
    assert line.sender.told.empty()


async def test_a_deadline_and_an_outcome_in_one_turn_send_nothing_twice(lines: list[Line]) -> None:
    line = await started(lines, expiry=5)
    line.put("a")
    (entry,) = await line.taken()
    backlog = line.outbox._backlogs[RoomRef(1, "r")]
    backlog.host_sender.add(backlog)  # the deadline
    line.outbox.settle(BatchOutcome(Batch.of(entry).ref, [1]))
    line.put("b")
    (entry,) = await line.taken()
    assert ids(entry) == ["b"]
    assert await line.layer.receive_many(CHANNEL, 10, 0.1) == []


async def test_a_batch_in_flight_of_a_room_that_is_made_anew_still_hears_its_outcome(lines: list[Line]) -> None:
    line = await started(lines, expiry=0.3)
    line.put("a")
    (entry,) = await line.taken()
    line.hub.give_up("r", line.hub.rooms["r"])  # nobody subscribes for the former room any more
    (again,) = await line.taken()
    assert again == entry
    await line.settled(again, refused={"a": ("no_room", "There is no room r.")})
    assert (await line.sender.next())["code"] == "no_room"
    await line.empty()
    assert line.hub.rooms["r"].holds == 0


async def test_what_is_on_its_way_is_not_taken_twice_and_both_connections_are_told(lines: list[Line]) -> None:
    line = await started(lines, expiry=5)
    line.sees(17)
    line.put("a")
    (entry,) = await line.taken()
    returned = Sender()
    line.put("a", "b", sender=returned)
    line.put("b", "b", sender=returned)
    assert await line.layer.receive_many(CHANNEL, 10, 0.3) == []
    await line.settled(entry, known={"a": 17})
    assert await line.sender.next() == await returned.next() == {"type": "stored", "id": "a", "seq": 17}
    (entry,) = await line.taken()
    assert ids(entry) == ["b"]
    await line.settled(entry, 18)
    await line.empty()


async def test_who_sends_again_what_is_on_its_way_is_not_refused_for_a_full_outbox(lines: list[Line]) -> None:
    line = await started(lines, most=2)
    line.put("a", "b")
    line.put("a", "b")
    with pytest.raises(Refused):
        line.put("a", who="ben")  # another's


async def test_the_room_stays_subscribed_while_a_batch_is_in_flight_and_no_longer(lines: list[Line]) -> None:
    line = await started(lines)
    line.put("a")
    (entry,) = await line.taken()
    assert line.hub.rooms["r"].holds == 1
    await line.settled(entry)
    await line.empty()
    assert line.hub.rooms["r"].holds == 0


async def test_where_several_talk_at_once_the_next_batch_waits_for_them(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "BATCH_DELAY_SECONDS", 0.2)
    monkeypatch.setattr(outbox_module, "MAX_BATCH_DELAY_SECONDS", 0.2)
    line = await started(lines)
    line.put("a", "b")
    (entry,) = await line.taken()
    await line.settled(entry)
    await line.empty()
    line.put("c")
    assert await line.layer.length(CHANNEL) == 0  # an answer from Redis: time enough to have been sent
    line.put("d")
    (entry,) = await line.taken()
    assert ids(entry) == ["c", "d"]


async def test_who_talks_alone_does_not_wait(lines: list[Line], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "BATCH_DELAY_SECONDS", 60)
    monkeypatch.setattr(outbox_module, "MAX_BATCH_DELAY_SECONDS", 60)
    line = await started(lines)
    for number, id in enumerate("abc", 1):
        line.put(id)
        (entry,) = await line.taken()
        assert ids(entry) == [id]
        await line.settled(entry, number)
        await line.empty()
