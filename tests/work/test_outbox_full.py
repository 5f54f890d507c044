"""The outbox when there is more than the queue or the process may hold, or more than is stored in time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.realtime.two_hosts import hosts_of, one_of_each
from tests.support.servers import RedisServer
from tests.work.outbox_fixtures import CHANNEL, OutboxHarness, Sender, harnesses, ids, start_harness

from channelbox.realtime.counters import counters
from channelbox.realtime.errors import Code, Refused
from channelbox.work import outbox as outbox_module
from channelbox.work import outbox_backlogs as backlogs_module
from channelbox.work.backpressure import ThroughputEstimate
from channelbox.work.outbox_backlogs import RoomBacklog
from channelbox.work.queue import WorkLayer


async def _fill_queue() -> WorkLayer:
    """Fill the queue with another sender's entry, which does not expire during the test.

    Returns its layer, to empty it.
    """
    layer = WorkLayer(capacity=1, expiry=60)
    await layer.send(CHANNEL, {"type": "other"})
    return layer


async def test_a_full_queue_refuses_messages_after_the_expiry(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses, capacity=1, expiry=0.3)
    await _fill_queue()
    harness.put("a")
    received = await harness.sender.next()
    assert (received["code"], received["id"]) == (Code.QUEUE_FULL, "a")
    assert received["retry_after"] > 0
    await harness.empty()


async def test_a_full_queue_refuses_later_messages_of_the_sender_too(harnesses: list[OutboxHarness]) -> None:
    """Otherwise later messages would be stored before earlier ones, which their client has to send again."""
    harness = await start_harness(harnesses, capacity=1, expiry=0.5)
    other = await _fill_queue()
    bob = Sender()
    harness.put("a", "b")
    await asyncio.sleep(0.4)  # a and b are in the batch that is refused, what follows is not
    harness.put("c")
    harness.put("d", name="bob", sender=bob)
    assert [(await harness.sender.next())["id"] for _ in range(3)] == ["a", "b", "c"]
    await other.flush()
    (entry,) = await harness.taken()
    assert ids(entry) == ["d"]
    assert bob.received.empty()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of batches in each call of the queue."""
    calls: list[int] = []
    send_many = WorkLayer.send_many

    async def recording_send(self: WorkLayer, channel: str, messages: Any, *args: Any, **options: Any) -> None:
        calls.append(len(messages))
        await send_many(self, channel, messages, *args, **options)

    monkeypatch.setattr(WorkLayer, "send_many", recording_send)
    return calls


async def test_a_full_queue_is_not_tried_for_each_of_many_rooms(
    harnesses: list[OutboxHarness], calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise rooms with little to store, whose list is not full, would wait that long."""
    rooms = 60
    harness = await start_harness(harnesses, capacity=1, expiry=60)
    await _fill_queue()
    monkeypatch.setattr(outbox_module, "MIN_FULL_PAUSE_SECONDS", 60)
    monkeypatch.setattr(outbox_module, "MAX_FULL_PAUSE_SECONDS", 60)
    for number in range(rooms):
        harness.put("a", room=f"r{number}")
    async with asyncio.timeout(10):
        while (
            sum(
                backlog.in_flight is not None and backlog.in_flight.backoff is not None
                for backlog in backlogs_of(harness)
            )
            < rooms
        ):
            await asyncio.sleep(0.01)
    assert len([call for call in calls if call == 1]) < rooms / 2


def backlogs_of(harness: OutboxHarness) -> list[RoomBacklog]:
    return list(harness.outbox._backlogs.values())


async def test_batches_of_many_rooms_are_split_over_several_calls(
    harnesses: list[OutboxHarness], calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_CALL_BATCHES", 10)
    harness = await start_harness(harnesses, capacity=1000)
    for number in range(60):
        harness.put("a", room=f"r{number}")
    rooms: set[str] = set()
    while len(rooms) < 60:
        rooms |= {entry["room"] for entry in await harness.taken()}
    assert max(calls) <= 10


async def test_a_batch_that_may_be_stored_is_not_refused_by_a_full_queue(harnesses: list[OutboxHarness]) -> None:
    """Its worker may have died after the commit: only the database knows."""
    harness = await start_harness(harnesses, capacity=1, expiry=0.3)
    harness.put("a")
    (entry,) = await harness.taken()
    other = await _fill_queue()
    await asyncio.sleep(3)  # the deadline, then refusals of the queue for longer than the expiry
    assert harness.sender.received.empty()
    await other.flush()
    assert await harness.taken() == [entry]


async def test_a_full_outbox_refuses_at_once(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses, max_messages=2)
    harness.put("a", "b")
    with pytest.raises(Refused) as refused:
        harness.put("c")
    assert refused.value.frame["id"] == "c"


async def test_above_capacity_a_room_beyond_its_share_is_refused(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await start_harness(harnesses)
    monkeypatch.setattr(ThroughputEstimate, "capacity", property(lambda _: 4))
    harness.put("a", "b", "c", "d", room="loud")
    with pytest.raises(Refused) as refused:
        harness.put("e", room="loud")
    assert refused.value.code == "queue_full"
    assert refused.value.frame["id"] == "e"
    harness.put("x", "y", room="quiet")  # its share is half of 4
    with pytest.raises(Refused):
        harness.put("z", room="quiet")


async def test_a_small_batch_does_not_wait_behind_large_ones(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlogs_module, "MIN_BULK_MESSAGES", 10)
    harness = await start_harness(harnesses)
    harness.put(*"abcdefghijkl", room="loud")
    while await harness.layer.length(CHANNEL) < 1:
        await asyncio.sleep(0.01)
    harness.put("x", room="quiet")
    while await harness.layer.length(CHANNEL) < 2:
        await asyncio.sleep(0.01)
    few, bulk = await harness.layer.receive_many(CHANNEL, 50, 1), await harness.taken_in_bulk()
    assert [ids(entry) for entry in few] == [["x"]]
    assert [ids(entry) for entry in bulk] == [list("abcdefghijkl")]
    assert await harness.taken_in_bulk() == bulk  # without outcomes both batches are sent again


async def test_a_small_batch_does_not_wait_for_a_slow_call_with_large_ones(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full list is tried with one batch after another, which takes long."""
    monkeypatch.setattr(backlogs_module, "MIN_BULK_MESSAGES", 10)
    harness = await start_harness(harnesses, expiry=5)
    send, begun, may_continue = harness.layer.send_many, asyncio.Event(), asyncio.Event()

    async def send_slowly(*args: Any, bulk: bool = False) -> None:
        if bulk:
            begun.set()
            await may_continue.wait()
        await send(*args, bulk=bulk)

    monkeypatch.setattr(harness.layer, "send_many", send_slowly)
    harness.put(*"abcdefghijkl", room="loud")
    await asyncio.wait_for(begun.wait(), 10)
    harness.put("x", room="quiet")
    assert [ids(entry) for entry in await harness.layer.receive_many(CHANNEL, 50, 5)] == [["x"]]
    may_continue.set()
    assert [ids(entry) for entry in await harness.taken_in_bulk()] == [list("abcdefghijkl")]


async def test_the_bulk_list_is_unused_while_few_messages_wait(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses)
    harness.put(*"abcdefghijkl", room="loud")
    while await harness.layer.length(CHANNEL) < 1:
        await asyncio.sleep(0.01)
    assert await harness.layer.receive_many(CHANNEL, 50, 0.05, bulk=True) == []


# --- Rooms without outcomes


async def test_a_room_without_outcomes_gives_way_to_others(harnesses: list[OutboxHarness]) -> None:
    """Its newest messages are refused, with an error to their senders, to make space for a room that has fewer."""
    harness = await start_harness(harnesses, max_messages=300, expiry=5)
    names = [str(number) for number in range(300)]
    harness.put(*names, room="stuck")
    bob = Sender()
    for number in range(10):
        harness.put(f"x{number}", room="quiet", name="bob", sender=bob)
    received = [await harness.sender.next() for _ in range(harness.sender.received.qsize())]
    assert {frame["code"] for frame in received} == {Code.QUEUE_FULL}
    assert [frame["id"] for frame in reversed(received)] == names[-len(received) :]
    assert bob.received.empty()
    stored = 0
    while stored < 10:
        for entry in await harness.taken():
            if entry["room"] == "quiet":
                await harness.publish_outcome(entry, stored + 1)
                stored += len(ids(entry))
    assert harness.outbox._message_count == 300 - len(received)


async def test_small_backlogs_are_not_searched_for_each_message(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no room has a large backlog, a search frees nothing, and with thousands of rooms it takes long."""
    monkeypatch.setattr(backlogs_module, "EVICTION_PAUSE_SECONDS", 60)
    harness = await start_harness(harnesses, max_messages=80, expiry=5)
    for room in range(40):
        harness.put("1", "2", room=str(room))
    for room in range(40, 60):
        harness.put("1", room=str(room))
    assert harness.sender.received.qsize() == 1
    assert harness.outbox._message_count == 99
    harness.put("1", room="last")
    with pytest.raises(Refused):
        harness.put("1", room="one more")


async def test_a_reserve_admits_other_rooms_when_all_is_in_flight(harnesses: list[OutboxHarness]) -> None:
    """Messages that may be stored cannot be refused. There is a reserve, of which each room has an equal share."""
    harness = await start_harness(harnesses, max_messages=80, expiry=5)
    for room in range(8):
        harness.put(*map(str, range(10)), room=f"stuck-{room}")
    taken = 0
    while taken < 8:
        taken += len(await harness.taken())
    harness.put("x", "y", "z", room="quiet")
    with pytest.raises(Refused):
        harness.put("more", room="quiet")  # a ninth of 20 is a little more than 2
    for room in range(30):
        try:
            harness.put("1", "2", "3", room=f"late-{room}")
        except Refused:
            continue
    assert harness.outbox._message_count <= 100


async def test_a_frozen_redis_host_leaves_half_the_outbox_to_the_other(
    harnesses: list[OutboxHarness], new_redis: Callable[..., RedisServer]
) -> None:
    servers = [new_redis(), new_redis()]
    harness = await start_harness(harnesses, max_messages=100, expiry=5, hosts=hosts_of(servers, 5))
    stuck, quiet = one_of_each(harness.bus)
    servers[0].freeze()
    taken = 0
    with pytest.raises(Refused):
        for taken in range(200):
            harness.put(str(taken), room=stuck)
    assert taken == 50  # half of the outbox
    harness.put(*map(str, range(50)), room=quiet)
    (entry,) = await harness.layer.receive_many(CHANNEL, 10, 5, harness.bus.host(quiet))
    assert entry["room"] == quiet
    servers[0].thaw()


async def test_overdue_messages_take_no_capacity_from_other_rooms(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await start_harness(harnesses, expiry=0.1)
    monkeypatch.setattr(ThroughputEstimate, "capacity", property(lambda _: 10))
    harness.put(*map(str, range(10)), room="stuck")
    with pytest.raises(Refused):
        harness.put(*map(str, range(10)), room="busy", name="bob")  # its share is half of 10
    resent = counters.resent
    async with asyncio.timeout(10):
        while counters.resent == resent:  # without an outcome for longer than the expiry
            await asyncio.sleep(0.01)
    for entry in await harness.taken():
        if entry["room"] == "busy":
            await harness.publish_outcome(entry)
    async with asyncio.timeout(10):
        while harness.outbox._message_count > 10:
            await asyncio.sleep(0.01)
    harness.put(*map(str, range(10)), room="busy", name="bob")
    with pytest.raises(Refused):
        harness.put("more", room="stuck")


async def test_an_overdue_room_does_not_lower_the_throughput_estimate(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await start_harness(harnesses, expiry=0.1)
    (sender,) = harness.outbox._host_senders
    left: list[bool] = []
    monkeypatch.setattr(sender.throughput, "record", lambda count, more: left.append(more))
    harness.put("a", room="stuck")
    resent = counters.resent
    async with asyncio.timeout(10):
        while counters.resent == resent:
            await asyncio.sleep(0.01)
    harness.put("x")
    while not left:
        for entry in await harness.taken():
            if entry["room"] == "r":
                await harness.publish_outcome(entry)
    assert left == [False]  # nothing is left that could be stored
