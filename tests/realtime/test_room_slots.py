"""Room slots over real Redis: each RoomSlots object stands for a process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from tests.realtime.two_hosts import hosts_of, one_of_each
from tests.support.servers import RedisServer

from channelbox.realtime import redis_keys, room_slots
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Close, Code, Refused
from channelbox.realtime.room_slots import RoomSlots


@pytest.fixture
async def one(bus: Bus) -> AsyncIterator[RoomSlots]:
    one = RoomSlots(bus, "one")
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def two(bus: Bus) -> AsyncIterator[RoomSlots]:
    two = RoomSlots(bus, "two")
    await two.start()
    yield two
    await two.stop()


async def slot_counts(bus: Bus, room: str = "r") -> dict[str, int]:
    places = cast("dict[bytes, bytes]", await bus.client(redis_keys.places(room)).hgetall(redis_keys.places(room)))
    return {process.decode(): int(count) for process, count in places.items()}


async def until_slot_counts(bus: Bus, expected: dict[str, int]) -> None:
    async with asyncio.timeout(10):
        while await slot_counts(bus) != expected:
            await asyncio.sleep(0.01)


async def refused(slots: RoomSlots, limit: int) -> Refused:
    with pytest.raises(Refused) as error:
        await slots.take("r", limit)
    return error.value


async def test_a_full_room_refuses_joins_until_a_slot_is_returned(bus: Bus, one: RoomSlots, two: RoomSlots) -> None:
    await one.take("r", 2)
    await two.take("r", 2)
    full = await refused(one, 2)
    assert (full.code, full.close) == (Code.ROOM_FULL, Close.ROOM_FULL)
    assert "full (limit: 2)" in str(full)
    two.give("r")
    await until_slot_counts(bus, {"one": 1})
    await one.take("r", 2)
    assert await slot_counts(bus) == {"one": 2}


async def test_concurrent_joins_fill_a_room_exactly_to_its_limit(bus: Bus, one: RoomSlots, two: RoomSlots) -> None:
    results = await asyncio.gather(
        *(slots.take("r", 100) for slots in (one, two) for _ in range(200)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 100
    assert all(result is None or isinstance(result, Refused) for result in results)
    assert sum((await slot_counts(bus)).values()) == 100


async def test_reserved_slots_are_kept_for_members_entitled_to_them(bus: Bus, one: RoomSlots, two: RoomSlots) -> None:
    """However joins are combined in exchanges with Redis, and whichever come first."""
    both = [slots.take("r", 100, reserved) for slots in (one, two) for _ in range(60) for reserved in (0, 30)]
    results = await asyncio.gather(*both, return_exceptions=True)
    assert sum(result is None for result in results[::2]) >= 30
    assert sum(result is None for result in results) in range(70, 101)
    assert sum((await slot_counts(bus)).values()) == sum(result is None for result in results)
    await asyncio.gather(*(slots.take("r", 100) for slots in (one, two) for _ in range(60)), return_exceptions=True)
    assert sum((await slot_counts(bus)).values()) == 100


async def test_guests_are_refused_when_only_reserved_slots_are_left(bus: Bus, one: RoomSlots, two: RoomSlots) -> None:
    results = await asyncio.gather(
        *(slots.take("r", 10, 3) for slots in (one, two) for _ in range(10)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 7
    (full, *_) = [result for result in results if isinstance(result, Refused)]
    assert full.code == Code.ROOM_FULL
    assert "full for guests (limit: 7)" in str(full)
    assert sum((await slot_counts(bus)).values()) == 7


async def test_rapid_joins_and_leaves_are_counted_correctly(bus: Bus, one: RoomSlots, two: RoomSlots) -> None:
    async def join_and_leave(slots: RoomSlots) -> None:
        for _ in range(20):
            await slots.take("r", 1000)
            slots.give("r")

    await one.take("r", 1000)
    await asyncio.gather(*(join_and_leave(slots) for slots in (one, two) for _ in range(20)))
    await until_slot_counts(bus, {"one": 1})


async def test_slots_of_a_dead_process_are_freed_when_its_lease_ends(bus: Bus, one: RoomSlots) -> None:
    dead = RoomSlots(bus, "dead")
    await dead.start()
    await dead.take("r", 1)
    for task in dead._tasks:  # killed: no slot is returned
        task.cancel()
    assert (await refused(one, 1)).code == Code.ROOM_FULL
    await bus.client("").pexpire(redis_keys.lease("dead"), 1)
    await asyncio.sleep(0.01)
    await one.take("r", 1)
    assert await slot_counts(bus) == {"one": 1}


async def test_a_lease_expires_and_outlives_one_missed_renewal(bus: Bus, one: RoomSlots) -> None:
    await one.take("r", 1)
    left = await bus.client("").pttl(redis_keys.lease("one"))
    assert 0 < left <= room_slots.LEASE_SECONDS * 1000
    assert room_slots.RENEW_SECONDS * 2 < room_slots.LEASE_SECONDS


async def test_slot_counts_are_rewritten_after_a_redis_flush(
    bus: Bus, one: RoomSlots, redis_server: RedisServer
) -> None:
    await one.take("r", 5)
    await one.take("r", 5)
    with redis_server.client() as client:
        client.flushall()
    one.rewrite()
    await until_slot_counts(bus, {"one": 2})


async def test_stopping_returns_all_slots(bus: Bus, two: RoomSlots) -> None:
    one = RoomSlots(bus, "one")
    await one.start()
    await one.take("r", 1)
    await one.stop()
    await two.take("r", 1)


async def test_a_cancelled_join_takes_no_slot(bus: Bus, one: RoomSlots) -> None:
    waiting = [asyncio.ensure_future(one.take("r", 100)) for _ in range(50)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await one.take("r", 100)
    await until_slot_counts(bus, {"one": 1})


async def test_joins_are_refused_with_try_later_during_a_redis_outage(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    bus = Bus([{"address": server.url, "socket_timeout": 1, "socket_connect_timeout": 1}])
    slots = RoomSlots(bus, "one")
    await slots.start()
    await slots.take("r", 5)
    server.stop()
    error = await refused(slots, 5)
    assert (error.code, error.close) == (Code.TRY_LATER, Close.TRY_LATER)
    server.start()
    async with asyncio.timeout(10):
        while True:
            try:
                await slots.take("r", 5)
                break
            except Refused:
                await asyncio.sleep(0.1)
    await slots.stop()
    await bus.stop()


@pytest.fixture
async def patient(new_redis: Callable[..., RedisServer]) -> AsyncIterator[tuple[RedisServer, Bus, RoomSlots]]:
    """Return slots on a Redis of their own, with its server and bus. Reading from it times out late."""
    server = new_redis()
    bus = Bus([{"address": server.url, "socket_timeout": 14}])
    slots = RoomSlots(bus, "one")
    await slots.start()
    yield server, bus, slots
    await slots.stop()
    await bus.stop()


async def test_joins_are_refused_in_time_while_redis_is_frozen(
    patient: tuple[RedisServer, Bus, RoomSlots], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _, slots = patient
    await slots.take("r", 9)
    server.freeze()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(room_slots, "WAIT_SECONDS", 0.3)
            for _ in range(3):  # one after another: no join waits for those before it
                errors = await asyncio.gather(*(refused(slots, 9) for _ in range(2)))
                assert {error.code for error in errors} == {Code.TRY_LATER}
    finally:
        server.thaw()
    async with asyncio.timeout(10):
        await slots.take("r", 9)
        while slots.taken["r"] != 2:
            await asyncio.sleep(0.01)


async def test_a_slot_granted_after_its_connection_was_lost_is_returned(
    patient: tuple[RedisServer, Bus, RoomSlots],
) -> None:
    """Redis is frozen, and the connection is given up meanwhile; then Redis thaws and executes the request."""
    server, bus, slots = patient
    await slots.take("other", 5)
    server.freeze()
    joining = asyncio.ensure_future(refused(slots, 5))
    await asyncio.sleep(0.2)  # the request is on its way
    await bus.hosts.pools[0].disconnect()
    assert (await joining).code == Code.TRY_LATER
    server.thaw()
    await until_slot_counts(bus, {})
    assert slots.taken == {"other": 1}


@pytest.mark.parametrize("gone", [0, 1])
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_an_unavailable_redis_host_affects_only_its_own_rooms(
    new_redis: Callable[..., RedisServer], how: str, gone: int
) -> None:
    servers = [new_redis(), new_redis()]
    bus = Bus(hosts_of(servers, 3))
    slots = RoomSlots(bus, "one")
    await slots.start()
    rooms = one_of_each(bus)
    for room in rooms:
        await slots.take(room, 5)
    getattr(servers[gone], "kill" if how == "killed" else "freeze")()
    with pytest.raises(Refused):
        await slots.take(rooms[gone], 5)
    async with asyncio.timeout(1):
        for _ in range(2):
            await slots.take(rooms[1 - gone], 5)
    with servers[1 - gone].client() as client:
        assert client.hget(redis_keys.places(rooms[1 - gone]), "one") == b"3"
        client.delete(redis_keys.lease("one"))
        slots.rewrite()
        async with asyncio.timeout(2):
            while not client.exists(redis_keys.lease("one")):  # the lease is renewed there too
                await asyncio.sleep(0.05)
    if how == "frozen":
        servers[gone].thaw()
    await slots.stop()
    await bus.stop()


async def test_slots_work_again_after_an_unexpected_error(one: RoomSlots, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = one._exchange

    async def fail_once(*words: Any) -> None:
        monkeypatch.setattr(one, "_exchange", exchange)
        raise ZeroDivisionError

    await one.take("r", 2)
    monkeypatch.setattr(one, "_exchange", fail_once)
    async with asyncio.timeout(8):
        assert (await refused(one, 2)).frame["code"] == "try_later"
        await one.take("r", 2)
        assert (await refused(one, 2)).frame["code"] == "room_full"


async def test_a_room_with_a_redis_error_does_not_block_other_rooms(bus: Bus, one: RoomSlots) -> None:
    await bus.client(redis_keys.places("r")).set(redis_keys.places("r"), "no hash")
    async with asyncio.timeout(8):
        results = await asyncio.gather(refused(one, 5), one.take("other", 5))
        assert results[0].frame["code"] == "try_later"
        await bus.client(redis_keys.places("r")).delete(redis_keys.places("r"))
        await one.take("r", 5)
