"""The outbox over real Redis. The hub's record is empty and its rooms are real; the test is the worker."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channelbox.realtime import keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.codes import Code, Refused
from channelbox.realtime.envelope import Answer, Envelope, Origin
from channelbox.realtime.frames import payloads
from channelbox.realtime.hub import Hub, Room, Run
from channelbox.work import outbox as outbox_module
from channelbox.work.backpressure import ThroughputEstimate
from channelbox.work.outbox import BATCH_MOST, Message, Outbox
from channelbox.work.queue import WorkLayer

CHANNEL = "test.jobs"


class Nothing:
    """A record in which nothing was ever said."""

    async def open(self, name: str) -> tuple[int, Run]:
        return 1, Run(1, 0, b"")

    async def after(self, name: str, seq: int, most: int) -> Run:
        return Run(seq + 1, seq, b"")


class Sender:
    """A member that remembers what it was told."""

    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

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
            self.outbox.put(room, Message(f"g:{who}", None, who, id, "message", "hi", sender or self.sender))

    async def taken(self) -> list[dict[str, Any]]:
        async with asyncio.timeout(10):
            while not (entries := await self.layer.receive_many(CHANNEL, 200, 1)):
                pass
        return entries

    async def stored(self, entry: dict[str, Any], first: int = 1, elsewhere: tuple[str, ...] = ()) -> None:
        count = len(entry["messages"]) - len(elsewhere)
        origin = Origin(entry["origin"], entry["batch"], list(elsewhere))
        await self.bus.publish(keys.room(entry["room"]), Envelope(first, first + count - 1, [origin], b"").pack())

    async def answered(self, entry: dict[str, Any], **answer: Any) -> None:
        full = Answer(entry["room"], entry["batch"], answer.get("stored", []), answer.get("refused", []))
        await self.bus.publish(keys.origin("me"), full.pack())

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
    return [message[3] for message in entry["messages"]]


async def test_it_works(lines: list[Line]) -> None:
    line = await started(lines)
    line.put("a")
    (entry,) = await line.taken()
    assert (entry["type"], entry["room"], entry["origin"], ids(entry)) == ("job", "r", "me", ["a"])
    await line.stored(entry)
    await line.empty()


async def test_one_batch_of_a_room_is_in_flight_and_the_rest_waits_in_order(lines: list[Line]) -> None:
    line = await started(lines, expiry=5)
    line.put("a", "b")
    (first,) = await line.taken()
    line.put("c", "d")
    assert await line.layer.receive_many(CHANNEL, 10, 0.3) == []
    await line.stored(first)
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
    monkeypatch.setattr(outbox_module, "HOLD_PAUSE", 0.05)
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
    line.put(*map(str, range(BATCH_MOST + 5)))
    (first,) = await line.taken()
    await line.stored(first)
    (second,) = await line.taken()
    assert (len(first["messages"]), len(second["messages"])) == (BATCH_MOST, 5)


async def test_what_nobody_answers_is_sent_again_as_it_was(lines: list[Line]) -> None:
    line = await started(lines)
    line.put("a", "b")
    (first,) = await line.taken()
    line.put("c")
    (again,) = await line.taken()
    assert again == first
    await line.stored(again)
    (next_one,) = await line.taken()
    assert ids(next_one) == ["c"]


async def test_stored_before_is_told_to_its_sender_and_ends_the_batch(lines: list[Line]) -> None:
    line = await started(lines)
    line.put("a")
    (entry,) = await line.taken()
    await line.answered(entry, stored=[("g:ann", "a", 17)])
    assert await line.sender.next() == {"type": "stored", "id": "a", "seq": 17}
    await line.empty()


async def test_refused_is_told_with_its_reason_and_the_rest_of_the_batch_goes_on(lines: list[Line]) -> None:
    line = await started(lines, expiry=5)
    line.put("a", "b")
    (entry,) = await line.taken()
    await line.answered(entry, refused=[("g:ann", "a", "not_allowed", "This room is closed.")])
    assert await line.sender.next() == {"error": "This room is closed.", "code": "not_allowed", "id": "a"}
    assert not line.outbox._empty.is_set()
    await line.stored(entry, elsewhere=("a",))
    await line.empty()


async def test_a_second_answer_changes_nothing(lines: list[Line]) -> None:
    line = await started(lines)
    line.put("a")
    (entry,) = await line.taken()
    for _ in range(2):
        await line.answered(entry, stored=[("g:ann", "a", 1)])
    await line.stored(entry)
    await line.empty()
    assert await line.sender.next() == {"type": "stored", "id": "a", "seq": 1}
    assert line.sender.told.empty()


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
    line.put("a")
    (entry,) = await line.taken()
    returned = Sender()
    line.put("a", "b", sender=returned)
    line.put("b", "b", sender=returned)
    assert await line.layer.receive_many(CHANNEL, 10, 0.3) == []
    await line.answered(entry, stored=[("g:ann", "a", 17)])
    assert await line.sender.next() == await returned.next() == {"type": "stored", "id": "a", "seq": 17}
    (entry,) = await line.taken()
    assert ids(entry) == ["b"]
    await line.stored(entry, 18)
    await line.empty()


async def test_who_sends_again_what_was_answered_gets_an_answer_though_the_batch_is_still_in_flight(
    lines: list[Line],
) -> None:
    line = await started(lines, expiry=5)
    line.put("a", "b")
    (entry,) = await line.taken()
    await line.answered(entry, stored=[("g:ann", "a", 17)])
    assert await line.sender.next() == {"type": "stored", "id": "a", "seq": 17}
    returned = Sender()
    line.put("a", sender=returned)
    await line.stored(entry, 18, elsewhere=("a",))
    (again,) = await line.taken()
    assert ids(again) == ["a"]
    await line.answered(again, stored=[("g:ann", "a", 17)])
    assert await returned.next() == {"type": "stored", "id": "a", "seq": 17}
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
    await line.stored(entry)
    await line.empty()
    assert line.hub.rooms["r"].holds == 0


async def test_where_several_talk_at_once_the_next_batch_waits_for_them(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "GATHER_SECONDS", 0.2)
    monkeypatch.setattr(outbox_module, "GATHER_MOST", 0.2)
    line = await started(lines)
    line.put("a", "b")
    (entry,) = await line.taken()
    await line.stored(entry)
    await line.empty()
    line.put("c")
    assert await line.layer.length(CHANNEL) == 0  # an answer from Redis: time enough to have been sent
    line.put("d")
    (entry,) = await line.taken()
    assert ids(entry) == ["c", "d"]


async def test_who_talks_alone_does_not_wait(lines: list[Line], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "GATHER_SECONDS", 60)
    monkeypatch.setattr(outbox_module, "GATHER_MOST", 60)
    line = await started(lines)
    for number, id in enumerate("abc", 1):
        line.put(id)
        (entry,) = await line.taken()
        assert ids(entry) == [id]
        await line.stored(entry, number)
        await line.empty()
