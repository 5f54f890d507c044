"""The outbox when there is more than the queue or the process may hold, or than is stored in time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.realtime.two_hosts import hosts_of, one_of_each
from tests.support.servers import RedisServer
from tests.work.outbox_line import CHANNEL, Line, Sender, ids, lines, started

from channelbox.realtime.counters import counters
from channelbox.realtime.errors import Code, Refused
from channelbox.work import outbox as outbox_module
from channelbox.work import outbox_backlogs as backlogs_module
from channelbox.work.backpressure import ThroughputEstimate
from channelbox.work.outbox_backlogs import RoomBacklog
from channelbox.work.queue import WorkLayer


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


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many batches each call of the queue had."""
    calls: list[int] = []
    send_many = WorkLayer.send_many

    async def counting(self: WorkLayer, channel: str, messages: Any, *args: Any, **options: Any) -> None:
        calls.append(len(messages))
        await send_many(self, channel, messages, *args, **options)

    monkeypatch.setattr(WorkLayer, "send_many", counting)
    return calls


async def test_a_full_queue_is_not_asked_for_each_of_many_rooms(
    lines: list[Line], calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the rooms with little to store, whose list has a place, would wait."""
    rooms = 60
    line = await started(lines, capacity=1, expiry=60)
    await _filled()
    monkeypatch.setattr(outbox_module, "MIN_FULL_PAUSE_SECONDS", 60)
    monkeypatch.setattr(outbox_module, "MAX_FULL_PAUSE_SECONDS", 60)
    for number in range(rooms):
        line.put("a", room=f"r{number}")
    async with asyncio.timeout(10):
        while (
            sum(backlog.in_flight is not None and backlog.in_flight.backoff is not None for backlog in all_of(line))
            < rooms
        ):
            await asyncio.sleep(0.01)
    assert len([call for call in calls if call == 1]) < rooms / 2


def all_of(line: Line) -> list[RoomBacklog]:
    return list(line.outbox._backlogs.values())


async def test_the_batches_of_many_rooms_go_in_several_calls(
    lines: list[Line], calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_CALL_BATCHES", 10)
    line = await started(lines, capacity=1000)
    for number in range(60):
        line.put("a", room=f"r{number}")
    rooms: set[str] = set()
    while len(rooms) < 60:
        rooms |= {entry["room"] for entry in await line.taken()}
    assert max(calls) <= 10


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
    monkeypatch.setattr(ThroughputEstimate, "capacity", property(lambda _: 4))
    line.put("a", "b", "c", "d", room="loud")
    with pytest.raises(Refused) as refused:
        line.put("e", room="loud")
    assert refused.value.code == "queue_full"
    assert refused.value.frame["id"] == "e"
    line.put("x", "y", room="quiet")  # the half of 4 is its share
    with pytest.raises(Refused):
        line.put("z", room="quiet")


async def test_a_room_with_little_to_store_does_not_wait_behind_those_with_much(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlogs_module, "MIN_BULK_MESSAGES", 10)
    line = await started(lines)
    line.put(*"abcdefghijkl", room="loud")
    while await line.layer.length(CHANNEL) < 1:
        await asyncio.sleep(0.01)
    line.put("x", room="quiet")
    while await line.layer.length(CHANNEL) < 2:
        await asyncio.sleep(0.01)
    few, bulk = await line.layer.receive_many(CHANNEL, 50, 1), await line.taken_in_bulk()
    assert [ids(entry) for entry in few] == [["x"]]
    assert [ids(entry) for entry in bulk] == [list("abcdefghijkl")]
    assert await line.taken_in_bulk() == bulk  # without an outcome both are sent again


async def test_a_room_with_little_does_not_wait_for_a_call_for_those_with_much(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full list is asked for one batch after another, which takes long."""
    monkeypatch.setattr(backlogs_module, "MIN_BULK_MESSAGES", 10)
    line = await started(lines, expiry=5)
    send, begun, go_on = line.layer.send_many, asyncio.Event(), asyncio.Event()

    async def send_slowly(*args: Any, bulk: bool = False) -> None:
        if bulk:
            begun.set()
            await go_on.wait()
        await send(*args, bulk=bulk)

    monkeypatch.setattr(line.layer, "send_many", send_slowly)
    line.put(*"abcdefghijkl", room="loud")
    await asyncio.wait_for(begun.wait(), 10)
    line.put("x", room="quiet")
    assert [ids(entry) for entry in await line.layer.receive_many(CHANNEL, 50, 5)] == [["x"]]
    go_on.set()
    assert [ids(entry) for entry in await line.taken_in_bulk()] == [list("abcdefghijkl")]


async def test_as_long_as_little_waits_no_room_has_much(lines: list[Line]) -> None:
    line = await started(lines)
    line.put(*"abcdefghijkl", room="loud")
    while await line.layer.length(CHANNEL) < 1:
        await asyncio.sleep(0.01)
    assert await line.layer.receive_many(CHANNEL, 50, 0.05, bulk=True) == []


# --- Rooms without outcomes


async def test_a_room_without_outcomes_keeps_no_other_out(lines: list[Line]) -> None:
    """Its newest messages give way to a room that has less, and their senders are told."""
    line = await started(lines, most=300, expiry=5)
    names = [str(number) for number in range(300)]
    line.put(*names, room="stuck")
    ben = Sender()
    for number in range(10):
        line.put(f"x{number}", room="quiet", who="ben", sender=ben)
    told = [await line.sender.next() for _ in range(line.sender.told.qsize())]
    assert {frame["code"] for frame in told} == {Code.QUEUE_FULL}
    assert [frame["id"] for frame in reversed(told)] == names[-len(told) :]
    assert ben.told.empty()
    stored = 0
    while stored < 10:
        for entry in await line.taken():
            if entry["room"] == "quiet":
                await line.settled(entry, stored + 1)
                stored += len(ids(entry))
    assert line.outbox._message_count == 300 - len(told)


async def test_many_rooms_with_little_are_not_looked_through_for_each_message(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no room has much, nothing is won by it, and thousands of rooms take long."""
    monkeypatch.setattr(backlogs_module, "EVICTION_PAUSE_SECONDS", 60)
    line = await started(lines, most=80, expiry=5)
    for room in range(40):
        line.put("1", "2", room=str(room))
    for room in range(40, 60):
        line.put("1", room=str(room))
    assert line.sender.told.qsize() == 1
    assert line.outbox._message_count == 99
    line.put("1", room="last")
    with pytest.raises(Refused):
        line.put("1", room="one more")


async def test_rooms_with_all_they_hold_in_flight_keep_no_other_out(lines: list[Line]) -> None:
    """What may be stored cannot give way. There is a reserve, and each room has its equal share of it."""
    line = await started(lines, most=80, expiry=5)
    for room in range(8):
        line.put(*map(str, range(10)), room=f"stuck-{room}")
    taken = 0
    while taken < 8:
        taken += len(await line.taken())
    line.put("x", "y", "z", room="quiet")
    with pytest.raises(Refused):
        line.put("more", room="quiet")  # the ninth part of 20 are 2 and a bit
    for room in range(30):
        try:
            line.put("1", "2", "3", room=f"late-{room}")
        except Refused:
            continue
    assert line.outbox._message_count <= 100


async def test_a_host_without_outcomes_keeps_out_no_room_of_another(
    lines: list[Line], new_redis: Callable[..., RedisServer]
) -> None:
    servers = [new_redis(), new_redis()]
    line = await started(lines, most=100, expiry=5, hosts=hosts_of(servers, 5))
    stuck, quiet = one_of_each(line.bus)
    servers[0].freeze()
    taken = 0
    with pytest.raises(Refused):
        for taken in range(200):
            line.put(str(taken), room=stuck)
    assert taken == 50  # the half
    line.put(*map(str, range(50)), room=quiet)
    (entry,) = await line.layer.receive_many(CHANNEL, 10, 5, line.bus.host(quiet))
    assert entry["room"] == quiet
    servers[0].thaw()


async def test_what_is_late_takes_no_place_from_what_is_stored_in_time(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = await started(lines, expiry=0.1)
    monkeypatch.setattr(ThroughputEstimate, "capacity", property(lambda _: 10))
    line.put(*map(str, range(10)), room="stuck")
    with pytest.raises(Refused):
        line.put(*map(str, range(10)), room="busy", who="ben")  # the half of 10 is its share
    resent = counters.resent
    async with asyncio.timeout(10):
        while counters.resent == resent:  # without an outcome for longer than the expiry
            await asyncio.sleep(0.01)
    for entry in await line.taken():
        if entry["room"] == "busy":
            await line.settled(entry)
    async with asyncio.timeout(10):
        while line.outbox._message_count > 10:
            await asyncio.sleep(0.01)
    line.put(*map(str, range(10)), room="busy", who="ben")
    with pytest.raises(Refused):
        line.put("more", room="stuck")


async def test_a_room_that_is_late_is_no_slowness_of_the_others(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = await started(lines, expiry=0.1)
    (sender,) = line.outbox._host_senders
    left: list[bool] = []
    monkeypatch.setattr(sender.throughput, "record", lambda count, more: left.append(more))
    line.put("a", room="stuck")
    resent = counters.resent
    async with asyncio.timeout(10):
        while counters.resent == resent:
            await asyncio.sleep(0.01)
    line.put("x")
    while not left:
        for entry in await line.taken():
            if entry["room"] == "r":
                await line.settled(entry)
    assert left == [False]  # nothing is left that could be stored
