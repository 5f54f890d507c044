"""The outbox over real Redis. The hub's record is empty and its rooms are real; the test is the worker."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channelbox.realtime import keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.codes import Code, Refused
from channelbox.realtime.envelope import Batch, BatchOutcome, Envelope, RoomRef
from channelbox.realtime.frames import json_frame, payloads
from channelbox.realtime.hub import Hub
from channelbox.realtime.record import Identity, Opened
from channelbox.realtime.room import Room, Run
from channelbox.work import outbox as outbox_module
from channelbox.work.backpressure import ThroughputEstimate
from channelbox.work.message import Message
from channelbox.work.outbox import MAX_BATCH, Outbox
from channelbox.work.queue import WorkLayer

CHANNEL = "test.jobs"


class Nothing:
    """A record in which nothing was ever said."""

    async def open(self, name: str) -> Opened:
        return Opened(Identity(1, "epoch"), 1, Run(1, 0, b""))

    async def after(self, name: str, identity: Identity, seq: int, most: int) -> Run:
        return Run(seq + 1, seq, b"")


class Sender:
    """A member that remembers what it was told."""

    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def restart(self) -> None:
        raise AssertionError("nobody is sent away here")

    def write_frames(self, frames: bytes) -> None:
        for _, payload in payloads(frames):
            self.told.put_nowait(json.loads(bytes(payload)))

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.told.get(), 10)


class Line:
    """An outbox, and the worker's end of its queue."""

    def __init__(self, capacity: int = 100, expiry: float = 0.3, most: int = 1000) -> None:
        self.bus = Bus.current()
        self.layer = WorkLayer(capacity=capacity, expiry=expiry)
        self.hub = Hub(self.bus, Nothing(), "me")
        self.outbox = Outbox(self.layer, CHANNEL, "job", self.bus, self.hub, "me", ThroughputEstimate(most, 0.5))
        self.sender = Sender()

    def put(self, *ids: str, room: str = "r", who: str = "ann", sender: Sender | None = None) -> None:
        for id in ids:
            self.outbox.put(
                RoomRef(1, room), Message(f"g:{who}", None, who, id, "message", "hi", sender or self.sender)
            )

    def sees(self, seq: int) -> None:
        """From now on events up to `seq` have been written to the room's members."""
        room = self.hub.rooms.get("r")
        if room is None:
            ready = asyncio.get_running_loop().create_future()
            ready.set_result(None)
            room = self.hub.rooms["r"] = Room(ready)
            room.key, room.epoch = 1, "epoch"
            self.bus.begin(keys.room("r"), lambda payload: self.hub._payload("r", room, payload))
        room.seq = room.known = seq

    async def taken(self) -> list[dict[str, Any]]:
        async with asyncio.timeout(10):
            while not (entries := await self.layer.receive_many(CHANNEL, 200, 1)):
                pass
        return entries

    async def settled(
        self,
        entry: dict[str, Any],
        first: int = 1,
        known: dict[str, int] | None = None,
        refused: dict[str, tuple[str, str]] | None = None,
    ) -> None:
        """Publish as a worker does. `known` and `refused`: by id; the others are stored from `first` on."""
        batch = Batch.of(entry)
        numbers, next_seq = [], first
        known_at, refused_at = set(), {}
        for position, id in enumerate(ids(entry)):
            if id in (known or {}):
                known_at.add(position)
                numbers.append((known or {})[id])
            elif id in (refused or {}):
                refused_at[position] = (refused or {})[id]
                numbers.append(0)
            else:
                numbers.append(next_seq)
                next_seq += 1
        outcome = BatchOutcome(batch.ref, numbers, frozenset(known_at), refused_at)
        run = (first, next_seq - 1) if next_seq > first else (0, max((known or {"": 0}).values()))
        frames = b"".join(json_frame({"seq": seq}) for seq in range(first, next_seq))
        await self.bus.publish(keys.room(batch.room.name), Envelope(*run, frames, 1, [outcome]).pack())

    async def empty(self) -> None:
        await asyncio.wait_for(self.outbox._empty.wait(), 10)


@pytest.fixture
async def lines() -> AsyncIterator[list[Line]]:
    lines: list[Line] = []
    yield lines
    for line in lines:
        await line.outbox.stop(0)
        await line.hub.stop()
    await Bus.current().stop()


async def started(lines: list[Line], **options: Any) -> Line:
    line = Line(**options)
    lines.append(line)
    await line.outbox.start()
    return line


def ids(entry: dict[str, Any]) -> list[str]:
    return [message["id"] for message in entry["messages"]]


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

    async def sometimes(name: str) -> Room:
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
    await line.bus.publish(keys.room("r"), Envelope(1, 1, b"", 1, [outcome]).pack())
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
    lane = line.outbox._lanes[RoomRef(1, "r")]
    lane.sender.add(lane)  # the deadline
    line.outbox.settle(BatchOutcome(Batch.of(entry).ref, [1]))
    line.put("b")
    (entry,) = await line.taken()
    assert ids(entry) == ["b"]
    assert await line.layer.receive_many(CHANNEL, 10, 0.1) == []


async def test_a_batch_in_flight_of_a_room_that_is_made_anew_still_hears_its_outcome(lines: list[Line]) -> None:
    line = await started(lines, expiry=0.3)
    line.put("a")
    (entry,) = await line.taken()
    line.hub._replace("r", line.hub.rooms["r"])  # nobody subscribes for the former room any more
    (again,) = await line.taken()
    assert again == entry
    await line.settled(again, refused={"a": ("no_room", "There is no room r.")})
    assert (await line.sender.next())["code"] == "no_room"
    await line.empty()
    assert line.hub.rooms["r"].holds == 0


async def _filled() -> WorkLayer:
    """Somebody else's entry, which takes the only place and does not expire during the test."""
    layer = WorkLayer(capacity=1, expiry=60)
    await layer.send(CHANNEL, {"type": "other"})
    return layer


async def test_a_full_queue_is_told_after_the_expiry_and_nothing_is_kept(lines: list[Line]) -> None:
    line = await started(lines, capacity=1, expiry=0.3)
    await _filled()
    line.put("a")
    told = await line.sender.next()
    assert (told["code"], told["id"]) == (Code.QUEUE_FULL, "a")
    assert told["retry_after"] > 0
    await line.empty()


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


async def test_a_full_queue_refuses_what_its_sender_said_after_it_too(lines: list[Line]) -> None:
    """Else the later messages, sent in time to be stored, would overtake those that have to be sent again."""
    line = await started(lines, capacity=1, expiry=0.5)
    other = await _filled()
    ben = Sender()
    line.put("a", "b")
    await asyncio.sleep(0.4)  # a and b are in the batch that is refused, what follows is not
    line.put("c")
    line.put("d", who="ben", sender=ben)
    assert [(await line.sender.next())["id"] for _ in range(3)] == ["a", "b", "c"]
    await other.flush()
    (entry,) = await line.taken()
    assert ids(entry) == ["d"]
    assert ben.told.empty()


async def test_a_batch_that_may_be_stored_is_never_refused_for_a_full_queue(lines: list[Line]) -> None:
    """Its worker may have died after the commit: only the record can tell."""
    line = await started(lines, capacity=1, expiry=0.3)
    line.put("a")
    (entry,) = await line.taken()
    other = await _filled()
    await asyncio.sleep(3)  # the deadline, then refusals of the queue for longer than the expiry
    assert line.sender.told.empty()
    await other.flush()
    assert await line.taken() == [entry]


async def test_a_full_outbox_refuses_at_once(lines: list[Line]) -> None:
    line = await started(lines, most=2)
    line.put("a", "b")
    with pytest.raises(Refused) as refused:
        line.put("c")
    assert refused.value.frame["id"] == "c"


async def test_more_than_is_stored_in_time_is_refused_where_most_waits(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = await started(lines)
    monkeypatch.setattr(ThroughputEstimate, "room", property(lambda _: 4))
    line.put("a", "b", "c", "d", room="loud")
    with pytest.raises(Refused) as refused:
        line.put("e", room="loud")
    assert refused.value.code == "queue_full"
    assert refused.value.frame["id"] == "e"
    line.put("x", "y", room="quiet")  # the half of 4 is its share
    with pytest.raises(Refused):
        line.put("z", room="quiet")


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
    monkeypatch.setattr(outbox_module, "GATHER_SECONDS", 0.2)
    monkeypatch.setattr(outbox_module, "MAX_GATHER_SECONDS", 0.2)
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
    monkeypatch.setattr(outbox_module, "GATHER_SECONDS", 60)
    monkeypatch.setattr(outbox_module, "MAX_GATHER_SECONDS", 60)
    line = await started(lines)
    for number, id in enumerate("abc", 1):
        line.put(id)
        (entry,) = await line.taken()
        assert ids(entry) == [id]
        await line.settled(entry, number)
        await line.empty()
