"""Places in rooms, over real Redis: two RoomSlots are two processes."""

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


async def counted(bus: Bus, room: str = "r") -> dict[str, int]:
    places = cast("dict[bytes, bytes]", await bus.client(redis_keys.places(room)).hgetall(redis_keys.places(room)))
    return {process.decode(): int(count) for process, count in places.items()}


async def until_counted(bus: Bus, expected: dict[str, int]) -> None:
    async with asyncio.timeout(10):
        while await counted(bus) != expected:
            await asyncio.sleep(0.01)


async def refused(lease: RoomSlots, limit: int) -> Refused:
    with pytest.raises(Refused) as error:
        await lease.take("r", limit)
    return error.value


async def test_it_works(bus: Bus, one: RoomSlots, two: RoomSlots) -> None:
    await one.take("r", 2)
    await two.take("r", 2)
    full = await refused(one, 2)
    assert (full.code, full.close) == (Code.ROOM_FULL, Close.ROOM_FULL)
    assert "full (limit: 2)" in str(full)
    two.give("r")
    await until_counted(bus, {"one": 1})
    await one.take("r", 2)
    assert await counted(bus) == {"one": 2}


async def test_a_storm_fills_a_room_to_its_limit_and_not_beyond(bus: Bus, one: RoomSlots, two: RoomSlots) -> None:
    results = await asyncio.gather(
        *(lease.take("r", 100) for lease in (one, two) for _ in range(200)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 100
    assert all(result is None or isinstance(result, Refused) for result in results)
    assert sum((await counted(bus)).values()) == 100


async def test_the_last_places_are_kept_for_those_who_may_have_them(bus: Bus, one: RoomSlots, two: RoomSlots) -> None:
    """Whatever comes together in one exchange, and whoever comes first."""
    both = [lease.take("r", 100, reserved) for lease in (one, two) for _ in range(60) for reserved in (0, 30)]
    results = await asyncio.gather(*both, return_exceptions=True)
    assert sum(result is None for result in results[::2]) >= 30
    assert sum(result is None for result in results) in range(70, 101)
    assert sum((await counted(bus)).values()) == sum(result is None for result in results)
    await asyncio.gather(*(lease.take("r", 100) for lease in (one, two) for _ in range(60)), return_exceptions=True)
    assert sum((await counted(bus)).values()) == 100


async def test_those_who_are_not_to_have_the_last_places_are_told(bus: Bus, one: RoomSlots, two: RoomSlots) -> None:
    results = await asyncio.gather(
        *(lease.take("r", 10, 3) for lease in (one, two) for _ in range(10)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 7
    (full, *_) = [result for result in results if isinstance(result, Refused)]
    assert full.code == Code.ROOM_FULL
    assert "full for guests (limit: 7)" in str(full)
    assert sum((await counted(bus)).values()) == 7


async def test_those_who_come_and_go_at_once_are_counted_right(bus: Bus, one: RoomSlots, two: RoomSlots) -> None:
    async def visit(lease: RoomSlots) -> None:
        for _ in range(20):
            await lease.take("r", 1000)
            lease.give("r")

    await one.take("r", 1000)
    await asyncio.gather(*(visit(lease) for lease in (one, two) for _ in range(20)))
    await until_counted(bus, {"one": 1})


async def test_a_dead_process_frees_its_places_when_its_lease_ends(
    bus: Bus, one: RoomSlots, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = RoomSlots(bus, "dead")
    await dead.start()
    await dead.take("r", 1)
    for task in dead._tasks:  # killed: nothing is given back
        task.cancel()
    assert (await refused(one, 1)).code == Code.ROOM_FULL
    await bus.client("").pexpire(redis_keys.lease("dead"), 1)
    await asyncio.sleep(0.01)
    await one.take("r", 1)
    assert await counted(bus) == {"one": 1}


async def test_a_lease_ends_by_itself(bus: Bus, one: RoomSlots) -> None:
    await one.take("r", 1)
    left = await bus.client("").pttl(redis_keys.lease("one"))
    assert 0 < left <= room_slots.LEASE_SECONDS * 1000
    assert room_slots.RENEW_SECONDS * 2 < room_slots.LEASE_SECONDS


async def test_an_emptied_redis_heals(
    bus: Bus, one: RoomSlots, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.take("r", 5)
    await one.take("r", 5)
    with redis_server.client() as client:
        client.flushall()
    one.rewrite()
    await until_counted(bus, {"one": 2})


async def test_stopping_gives_everything_back(bus: Bus, two: RoomSlots) -> None:
    one = RoomSlots(bus, "one")
    await one.start()
    await one.take("r", 1)
    await one.stop()
    await two.take("r", 1)


async def test_who_gives_up_waiting_takes_no_place(bus: Bus, one: RoomSlots) -> None:
    waiting = [asyncio.ensure_future(one.take("r", 100)) for _ in range(50)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await one.take("r", 100)
    await until_counted(bus, {"one": 1})


async def test_without_redis_the_client_is_told_to_come_back(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    bus = Bus([{"address": server.url, "socket_timeout": 1, "socket_connect_timeout": 1}])
    lease = RoomSlots(bus, "one")
    await lease.start()
    await lease.take("r", 5)
    server.stop()
    error = await refused(lease, 5)
    assert (error.code, error.close) == (Code.TRY_LATER, Close.TRY_LATER)
    server.start()
    async with asyncio.timeout(10):
        while True:
            try:
                await lease.take("r", 5)
                break
            except Refused:
                await asyncio.sleep(0.1)
    await lease.stop()
    await bus.stop()


@pytest.fixture
async def patient(new_redis: Callable[..., RedisServer]) -> AsyncIterator[tuple[RedisServer, Bus, RoomSlots]]:
    """On a Redis of its own, whose silence is borne for long."""
    server = new_redis()
    bus = Bus([{"address": server.url, "socket_timeout": 14}])
    lease = RoomSlots(bus, "one")
    await lease.start()
    yield server, bus, lease
    await lease.stop()
    await bus.stop()


async def test_while_redis_hangs_everybody_is_told_in_time(
    patient: tuple[RedisServer, Bus, RoomSlots], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _, lease = patient
    await lease.take("r", 9)
    server.freeze()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(room_slots, "WAIT_SECONDS", 0.3)
            for _ in range(3):  # one after the other: each waits for itself, and none for those before
                told = await asyncio.gather(*(refused(lease, 9) for _ in range(2)))
                assert {error.code for error in told} == {Code.TRY_LATER}
    finally:
        server.thaw()
    async with asyncio.timeout(10):
        await lease.take("r", 9)
        while lease.taken["r"] != 2:
            await asyncio.sleep(0.01)


async def test_a_place_that_was_given_and_never_heard_of_is_given_back(
    patient: tuple[RedisServer, Bus, RoomSlots],
) -> None:
    """Redis was frozen, the connection given up meanwhile; then it thaws and does what it had been asked for."""
    server, bus, lease = patient
    await lease.take("other", 5)
    server.freeze()
    asking = asyncio.ensure_future(refused(lease, 5))
    await asyncio.sleep(0.2)  # what is asked for is on its way
    await bus.hosts.pools[0].disconnect()
    assert (await asking).code == Code.TRY_LATER
    server.thaw()
    await until_counted(bus, {})
    assert lease.taken == {"other": 1}


@pytest.mark.parametrize("gone", [0, 1])
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_redis_host_that_is_away_refuses_nobody_in_the_rooms_of_another(
    new_redis: Callable[..., RedisServer], how: str, gone: int
) -> None:
    servers = [new_redis(), new_redis()]
    bus = Bus(hosts_of(servers, 3))
    lease = RoomSlots(bus, "one")
    await lease.start()
    rooms = one_of_each(bus)
    for room in rooms:
        await lease.take(room, 5)
    getattr(servers[gone], "kill" if how == "killed" else "freeze")()
    with pytest.raises(Refused):
        await lease.take(rooms[gone], 5)
    async with asyncio.timeout(1):
        for _ in range(2):
            await lease.take(rooms[1 - gone], 5)
    with servers[1 - gone].client() as client:
        assert client.hget(redis_keys.places(rooms[1 - gone]), "one") == b"3"
        client.delete(redis_keys.lease("one"))
        lease.rewrite()
        async with asyncio.timeout(2):
            while not client.exists(redis_keys.lease("one")):  # the lease is renewed there too
                await asyncio.sleep(0.05)
    if how == "frozen":
        servers[gone].thaw()
    await lease.stop()
    await bus.stop()


async def test_places_are_counted_again_after_what_nobody_expected(
    one: RoomSlots, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = one._exchange

    async def once(*words: Any) -> None:
        monkeypatch.setattr(one, "_exchange", exchange)
        raise ZeroDivisionError

    await one.take("r", 2)
    monkeypatch.setattr(one, "_exchange", once)
    async with asyncio.timeout(8):
        assert (await refused(one, 2)).frame["code"] == "try_later"
        await one.take("r", 2)
        assert (await refused(one, 2)).frame["code"] == "room_full"


async def test_a_room_whose_places_cannot_be_written_holds_up_no_other(bus: Bus, one: RoomSlots) -> None:
    await bus.client(redis_keys.places("r")).set(redis_keys.places("r"), "no hash")
    async with asyncio.timeout(8):
        results = await asyncio.gather(refused(one, 5), one.take("other", 5))
        assert results[0].frame["code"] == "try_later"
        await bus.client(redis_keys.places("r")).delete(redis_keys.places("r"))
        await one.take("r", 5)
