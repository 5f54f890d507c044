"""What Redis does to the bus: it is killed, frozen, slow and replaced, and the bus finds it again by itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from tests.realtime.heard import Heard
from tests.realtime.two_hosts import hosts_of
from tests.support.servers import RedisServer, SentinelServer, free_port

from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.subscription_session import Session


@dataclass
class Case:
    """A bus on a Redis of its own, with one subscription."""

    server: RedisServer
    bus: Bus
    heard: Heard
    restored: asyncio.Event

    async def goes_on(self, seconds: float = 15) -> None:
        """The bus says that it is back, and it hears."""
        await asyncio.wait_for(self.restored.wait(), seconds)
        self.restored.clear()
        await self.bus.publish("c", b"hello")
        while await self.heard.next() != b"hello":
            pass


def fails() -> None:
    raise ZeroDivisionError


@pytest.fixture
async def case(new_redis: Callable[..., RedisServer]) -> AsyncIterator[Case]:
    server = new_redis()
    bus = Bus([server.url])
    case = Case(server, bus, Heard(), asyncio.Event())
    bus.on_restored(fails)
    bus.on_restored(case.restored.set)
    await bus.subscribe("c", case.heard)
    yield case
    await bus.stop()


async def test_a_restarted_redis_is_found_again_with_all_subscriptions(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    bus = Bus([server.url])
    restored = asyncio.Event()
    bus.on_restored(restored.set)
    heard = [Heard() for _ in range(1200)]
    await asyncio.gather(*(bus.subscribe(f"c{n}", handler) for n, handler in enumerate(heard)))
    assert not restored.is_set()
    server.kill()
    server.start()
    await asyncio.wait_for(restored.wait(), 10)
    await bus.publish_many([(f"c{n}", b"%d" % n) for n in range(1200)])
    assert [await handler.next() for handler in heard] == [b"%d" % n for n in range(1200)]
    await bus.stop()


async def test_a_killed_subscriber_is_back_at_once(case: Case) -> None:
    before = counters.reconnects
    for _ in range(3):
        with case.server.client() as client:
            client.client_kill_filter(_type="pubsub")
        await case.goes_on(2)
    assert counters.reconnects == before + 3


async def test_a_redis_restarted_again_and_again_is_found_again(case: Case) -> None:
    for _ in range(3):
        case.server.kill()
        case.server.start()
        await case.goes_on(20)


@pytest.mark.parametrize("how", ["closed", "silent"])
async def test_a_connection_lost_before_it_was_complete_counts_for_those_who_were_confirmed(
    new_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    server = new_redis()
    bus = Bus([server.url])
    case = Case(server, bus, Heard(), asyncio.Event())
    bus.on_restored(case.restored.set)
    sessions: list[Session] = []
    subscribe = Session.subscribe

    def without_the_probe(session: Session, subscriptions: Iterable[Any]) -> None:
        some = list(subscriptions)
        sessions.append(session)
        if some[0][0] == b"c" or session is not sessions[0]:
            subscribe(session, some)

    monkeypatch.setattr(Session, "subscribe", without_the_probe)
    await bus.subscribe("c", case.heard)
    if how == "closed":
        sessions[0].close()
    await case.goes_on(7)
    await bus.stop()


async def test_a_frozen_redis_is_noticed_and_found_again_when_it_thaws(case: Case) -> None:
    case.server.freeze()
    async with asyncio.timeout(5):
        while case.bus._subscribers[0].connected:
            await asyncio.sleep(0.05)
    assert not case.restored.is_set()
    case.server.thaw()
    await case.goes_on()


async def test_a_subscriber_that_was_too_slow_for_redis_is_back(case: Case) -> None:
    with case.server.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 256kb 128kb 1")
        # `time.sleep`: a handler that blocks the loop is what makes a subscriber too slow.
        await case.bus.subscribe("stall", lambda _: time.sleep(1))
        flood = asyncio.to_thread(lambda: [client.publish(name, bytes(10_000)) for name in ["stall"] + ["c"] * 500])
        await asyncio.gather(flood, case.goes_on())


async def test_a_backlog_is_no_reason_to_reconnect(case: Case) -> None:
    """Late probes, while messages arrive: a new connection would lose what is on its way."""
    # `time.sleep`: each message blocks the loop for a moment, so that they arrive faster than they are handled.
    await case.bus.subscribe("slow", lambda _: time.sleep(0.002))
    with case.server.client() as client:
        flood = client.pipeline(transaction=False)
        for _ in range(2500):
            flood.publish("slow", bytes(2000))
        await asyncio.to_thread(flood.execute)
    await case.bus.publish("c", b"last")
    assert await case.heard.next(20) == b"last"
    assert not case.restored.is_set()


async def test_what_is_asked_for_while_redis_is_away_is_done_when_it_is_back(case: Case) -> None:
    await case.bus.subscribe("gone", Heard())
    case.server.kill()
    async with asyncio.timeout(5):
        while case.bus._subscribers[0].connected:
            await asyncio.sleep(0.01)
    new = Heard()
    subscribing = asyncio.ensure_future(case.bus.subscribe("new", new))
    await asyncio.wait_for(case.bus.unsubscribe("gone"), 1)
    with pytest.raises(RedisError):
        await case.bus.publish("c", b"lost")
    assert not subscribing.done()
    case.server.start()
    await case.goes_on()
    await asyncio.wait_for(subscribing, 1)
    assert await case.bus.publish("new", b"x") == 1
    assert await new.next() == b"x"
    assert await case.bus.publish("gone", b"x") == 0


async def test_who_waits_for_a_redis_that_never_comes_is_told_when_the_bus_stops(tmp_path: Path) -> None:
    bus = Bus([f"unix://{tmp_path}/nothing.sock"])
    subscribing = asyncio.ensure_future(bus.subscribe("c", Heard()))
    await asyncio.sleep(0.3)
    await bus.stop()
    with pytest.raises(RedisConnectionError, match="stopped"):
        await subscribing
    with pytest.raises(RedisConnectionError, match="stopped"):
        await bus.subscribe("c", Heard())


async def test_a_publish_that_gets_no_answer_ends_in_time_and_is_not_done_twice(
    new_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channelbox.realtime.publisher.PUBLISH_SECONDS", 0.3)
    server = new_redis()
    bus = Bus([server.url])
    await bus.publish("c", b"connects")
    server.freeze()
    with pytest.raises(RedisTimeoutError):
        await bus.publish("c", b"once")
    with pytest.raises(RedisTimeoutError):
        await bus.publish_many([("c", b"once"), ("c", b"once")])
    server.thaw()
    with server.client() as client:
        assert client.info("commandstats")["cmdstat_publish"]["calls"] <= 4
    await bus.stop()


async def test_a_frozen_master_that_sentinel_replaces_is_left(
    new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    """The case in which channels_redis stays deaf: the connection to the old master is open and silent for ever."""
    ports = [free_port(), free_port()]
    old = new_redis(port=ports[0])
    new_redis("--replicaof", "127.0.0.1", str(ports[0]), port=ports[1])
    sentinel = SentinelServer(tmp_path, "channelbox", ports[0])
    sentinel.start()
    try:
        with sentinel.client() as client:
            async with asyncio.timeout(20):
                while not client.sentinel_slaves("channelbox"):
                    await asyncio.sleep(0.1)
        quick = {"socket_timeout": 3, "socket_connect_timeout": 3}
        host = {"sentinels": [("127.0.0.1", sentinel.port)], "master_name": "channelbox", "sentinel_kwargs": quick}
        bus = Bus([{**host, "socket_timeout": 15, "socket_connect_timeout": 5}])
        restored, heard = asyncio.Event(), Heard()
        bus.on_restored(restored.set)
        await bus.subscribe("c", heard)
        old.freeze()
        await asyncio.wait_for(restored.wait(), 20)
        assert await bus.publish("c", b"hello") == 1
        assert await heard.next() == b"hello"
        old.thaw()
        for _ in range(20):
            assert await bus.publish("c", b"again") == 1
            assert await heard.next() == b"again"
            await asyncio.sleep(0.1)
        await bus.stop()
    finally:
        sentinel.stop()


async def test_a_bus_stops_at_whatever_moment(redis_server: RedisServer) -> None:
    """Python 3.11's wait_for, in which redis-py writes, swallows a cancellation that comes at the wrong moment."""
    for turns in range(120):
        bus = Bus()
        subscribing = asyncio.ensure_future(bus.subscribe("c", Heard()))
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.shield(bus.stop())
        await asyncio.gather(subscribing, return_exceptions=True)


async def test_waiting_for_a_confirmation_ends_when_it_is_given_up(case: Case) -> None:
    case.server.freeze()
    confirmed = case.bus.begin("never", Heard())
    await asyncio.sleep(0)
    case.bus.forget("never")
    case.server.kill()
    case.server.start()
    await case.goes_on()
    assert confirmed.done()


@pytest.mark.parametrize("gone", [0, 1])
async def test_publishes_fail_by_themselves_where_a_host_hangs(
    new_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    monkeypatch.setattr("channelbox.realtime.publisher.PUBLISH_SECONDS", 2)
    servers = [new_redis(), new_redis()]
    bus = Bus(hosts_of(servers, 9))
    channels = sorted((f"c{n}" for n in range(20)), key=bus.hosts.index)
    on_first = sum(bus.hosts.index(channel) == 0 for channel in channels)
    publishes = [(channel, b"") for channel in channels]
    assert await bus.publish_each(publishes) == [0] * 20
    servers[gone].freeze()
    begun, behind = bus.begin_publish(publishes), bus.begin_publish(publishes)
    there, lost = (begun[on_first:], begun[:on_first]) if gone == 0 else (begun[:on_first], begun[on_first:])
    assert await asyncio.gather(*there) == [0] * len(there)
    assert not any(future.done() for future in lost)
    await asyncio.wait(lost)
    assert all(isinstance(future.exception(), RedisTimeoutError) for future in lost)
    assert all(future.done() for future in behind)  # those behind have waited as long
    servers[gone].thaw()
    await bus.stop()


async def test_a_publish_that_redis_denies_fails_alone(case: Case) -> None:
    with case.server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "resetchannels", "&c*")
    results = await case.bus.publish_each([("c", b"1"), ("forbidden", b"2"), ("c", b"3")])
    assert [results[0], results[2]] == [1, 1]
    assert isinstance(results[1], RedisError)
