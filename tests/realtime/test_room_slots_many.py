"""Slots in very many rooms block neither the event loop nor Redis, nor new joins."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.realtime.exchanges import Exchanges
from tests.realtime.two_hosts import hosts_of
from tests.support.servers import RedisServer
from tests.support.waiting import until

from channelbox.realtime import redis_keys, room_slots
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Code, Refused
from channelbox.realtime.room_slots import RoomSlots

ROOMS = [f"room-{number}" for number in range(1000)]
MAX_COMMANDS = 250  # in one exchange with Redis, which is packed and read in one turn of the loop
MAX_BYTES = 250  # of a command: the script has more


@pytest.fixture
async def slots(bus: Bus, exchanges: Exchanges) -> AsyncIterator[RoomSlots]:
    """Return the slots of a process that holds one in each room."""
    slots = RoomSlots(bus, "one")
    await slots.start()
    await asyncio.gather(*(slots.take(name, 5) for name in ROOMS))
    yield slots
    await slots.stop()


def places(server: RedisServer, rooms: list[str] = ROOMS) -> list[bytes | None]:
    """Return how many slots the process has in each room, according to Redis."""
    with server.client() as client, client.pipeline(transaction=False) as pipeline:
        for name in rooms:
            pipeline.hget(redis_keys.places(name), "one")
        return list(pipeline.execute())


async def until_written(server: RedisServer) -> None:
    await until(lambda: places(server) == [b"1"] * len(ROOMS))


async def test_joins_of_many_rooms_use_bounded_exchanges(
    slots: RoomSlots, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    await until_written(redis_server)
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_lost_slot_counts_are_rewritten_in_bounded_exchanges(
    slots: RoomSlots, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.flushdb()
    exchanges.clear()
    slots.rewrite()
    await until_written(redis_server)
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_a_join_does_not_wait_for_the_rewrite_of_many_rooms(slots: RoomSlots, exchanges: Exchanges) -> None:
    exchanges.clear()
    slots.rewrite()
    await slots.take("another", 5)
    assert len(exchanges.commands) <= 4  # all rooms take ten
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_leaving_many_rooms_uses_bounded_exchanges(
    slots: RoomSlots, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    exchanges.clear()
    for name in ROOMS:
        slots.give(name)
    await until(lambda: not any(places(redis_server)))
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_stopping_returns_slots_of_many_rooms_in_bounded_exchanges(
    bus: Bus, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    one = RoomSlots(bus, "one")
    await one.start()
    await asyncio.gather(*(one.take(name, 5) for name in ROOMS))
    exchanges.clear()
    await one.stop()
    assert not any(places(redis_server))
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_renewals_are_spread_over_the_renewal_interval(
    bus: Bus, exchanges: Exchanges, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_slots, "RENEW_SECONDS", 2.0)
    one = RoomSlots(bus, "one")
    await one.start()
    await asyncio.gather(*(one.take(name, 5) for name in ROOMS))
    with redis_server.client() as client:
        client.flushdb()
    exchanges.clear()
    await until_written(redis_server)  # no rewrite was requested: only renewals write
    exchanges.assert_bounded(MAX_COMMANDS)
    assert exchanges.times[-1] - exchanges.times[0] >= 1.0
    await one.stop()


async def test_the_script_is_not_sent_with_each_room(slots: RoomSlots, exchanges: Exchanges) -> None:
    sizes = [sum(len(str(word)) for word in command) for commands in exchanges.commands for command in commands]
    assert max(sizes) <= MAX_BYTES


async def test_joins_succeed_after_redis_lost_the_script(bus: Bus, slots: RoomSlots) -> None:
    await bus.client("").script_flush()
    await asyncio.gather(*(slots.take(name, 2) for name in ROOMS[:3]))
    with pytest.raises(Refused):
        await slots.take(ROOMS[0], 2)
    assert slots.taken[ROOMS[0]] == 2


async def test_waiting_joins_are_refused_together_in_a_redis_outage(
    new_redis: Callable[..., RedisServer], exchanges: Exchanges
) -> None:
    server = new_redis()
    bus = Bus(hosts_of([server], 5))
    one = RoomSlots(bus, "one")
    await one.start()
    await one.take("first", 5)
    server.kill()
    exchanges.clear()
    results = await asyncio.gather(*(one.take(name, 5) for name in ROOMS), return_exceptions=True)
    assert {result.code for result in results if isinstance(result, Refused)} == {Code.TRY_LATER}
    assert len(results) == len(ROOMS)
    assert len(exchanges.commands) <= 4  # all rooms take ten, and each further one follows after a pause
    server.start()
    await one.stop()
    await bus.stop()
