"""Places in very many rooms: they hold up neither the event loop nor Redis, nor those who want one."""

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
async def full(bus: Bus, exchanges: Exchanges) -> AsyncIterator[RoomSlots]:
    """A process that holds a place in each room."""
    full = RoomSlots(bus, "one")
    await full.start()
    await asyncio.gather(*(full.take(name, 5) for name in ROOMS))
    yield full
    await full.stop()


def places(server: RedisServer, rooms: list[str] = ROOMS) -> list[bytes | None]:
    """Return how many places the process has in each room, as Redis has it."""
    with server.client() as client, client.pipeline(transaction=False) as pipeline:
        for name in rooms:
            pipeline.hget(redis_keys.places(name), "one")
        return list(pipeline.execute())


async def until_written(server: RedisServer) -> None:
    await until(lambda: places(server) == [b"1"] * len(ROOMS))


async def test_a_crowd_into_many_rooms_is_taken_in_in_bounded_exchanges(
    full: RoomSlots, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    await until_written(redis_server)
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_what_redis_has_lost_is_written_again_in_bounded_exchanges(
    full: RoomSlots, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.flushdb()
    exchanges.clear()
    full.rewrite()
    await until_written(redis_server)
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_a_join_does_not_wait_while_many_rooms_are_written_again(full: RoomSlots, exchanges: Exchanges) -> None:
    exchanges.clear()
    full.rewrite()
    await full.take("another", 5)
    assert len(exchanges.commands) <= 4  # all rooms are in ten
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_leaving_many_rooms_is_written_in_bounded_exchanges(
    full: RoomSlots, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    exchanges.clear()
    for name in ROOMS:
        full.give(name)
    await until(lambda: not any(places(redis_server)))
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_stopping_gives_many_rooms_back_in_bounded_exchanges(
    bus: Bus, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    one = RoomSlots(bus, "one")
    await one.start()
    await asyncio.gather(*(one.take(name, 5) for name in ROOMS))
    exchanges.clear()
    await one.stop()
    assert not any(places(redis_server))
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_renewals_are_spread_over_their_period(
    bus: Bus, exchanges: Exchanges, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_slots, "RENEW_SECONDS", 2.0)
    one = RoomSlots(bus, "one")
    await one.start()
    await asyncio.gather(*(one.take(name, 5) for name in ROOMS))
    with redis_server.client() as client:
        client.flushdb()
    exchanges.clear()
    await until_written(redis_server)  # nobody asked for it: these are renewals alone
    exchanges.assert_bounded(MAX_COMMANDS)
    assert exchanges.times[-1] - exchanges.times[0] >= 1.0
    await one.stop()


async def test_the_script_is_not_sent_with_each_room(full: RoomSlots, exchanges: Exchanges) -> None:
    sizes = [sum(len(str(word)) for word in command) for commands in exchanges.commands for command in commands]
    assert max(sizes) <= MAX_BYTES


async def test_a_redis_that_has_forgotten_the_script_refuses_nobody(bus: Bus, full: RoomSlots) -> None:
    await bus.client("").script_flush()
    await asyncio.gather(*(full.take(name, 2) for name in ROOMS[:3]))
    with pytest.raises(Refused):
        await full.take(ROOMS[0], 2)
    assert full.taken[ROOMS[0]] == 2


async def test_all_who_wait_are_told_at_once_that_redis_is_away(
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
    assert len(exchanges.commands) <= 4  # all rooms are in ten, and each further one comes after a pause
    server.start()
    await one.stop()
    await bus.stop()
