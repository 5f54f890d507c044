"""The bus recovers by itself when Redis is killed, frozen, slow or replaced."""

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
from tests.realtime.receiver import Receiver
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
    receiver: Receiver
    restored: asyncio.Event

    async def assert_recovered(self, seconds: float = 15) -> None:
        """Wait until the bus reports that it is restored, and assert that it receives messages."""
        await asyncio.wait_for(self.restored.wait(), seconds)
        self.restored.clear()
        await self.bus.publish("c", b"hello")
        while await self.receiver.next() != b"hello":
            pass


def failing_callback() -> None:
    raise ZeroDivisionError


@pytest.fixture
async def case(new_redis: Callable[..., RedisServer]) -> AsyncIterator[Case]:
    server = new_redis()
    bus = Bus([server.url])
    case = Case(server, bus, Receiver(), asyncio.Event())
    bus.on_restored(failing_callback)
    bus.on_restored(case.restored.set)
    await bus.subscribe("c", case.receiver)
    yield case
    await bus.stop()


async def test_all_subscriptions_are_restored_after_a_redis_restart(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    bus = Bus([server.url])
    restored = asyncio.Event()
    bus.on_restored(restored.set)
    receivers = [Receiver() for _ in range(1200)]
    await asyncio.gather(*(bus.subscribe(f"c{n}", handler) for n, handler in enumerate(receivers)))
    assert not restored.is_set()
    server.kill()
    server.start()
    await asyncio.wait_for(restored.wait(), 10)
    await bus.publish_many([(f"c{n}", b"%d" % n) for n in range(1200)])
    assert [await handler.next() for handler in receivers] == [b"%d" % n for n in range(1200)]
    await bus.stop()


async def test_a_killed_subscriber_connection_is_replaced_immediately(case: Case) -> None:
    before = counters.reconnects
    for _ in range(3):
        with case.server.client() as client:
            client.client_kill_filter(_type="pubsub")
        await case.assert_recovered(2)
    assert counters.reconnects == before + 3


async def test_the_bus_recovers_from_repeated_redis_restarts(case: Case) -> None:
    for _ in range(3):
        case.server.kill()
        case.server.start()
        await case.assert_recovered(20)


@pytest.mark.parametrize("how", ["closed", "silent"])
async def test_losing_a_partly_confirmed_connection_calls_on_restored(
    new_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    server = new_redis()
    bus = Bus([server.url])
    case = Case(server, bus, Receiver(), asyncio.Event())
    bus.on_restored(case.restored.set)
    sessions: list[Session] = []
    subscribe = Session.subscribe

    def without_the_probe(session: Session, subscriptions: Iterable[Any]) -> None:
        some = list(subscriptions)
        sessions.append(session)
        if some[0][0] == b"c" or session is not sessions[0]:
            subscribe(session, some)

    monkeypatch.setattr(Session, "subscribe", without_the_probe)
    await bus.subscribe("c", case.receiver)
    if how == "closed":
        sessions[0].close()
    await case.assert_recovered(7)
    await bus.stop()


async def test_a_frozen_redis_is_detected_and_used_again_after_thawing(case: Case) -> None:
    case.server.freeze()
    async with asyncio.timeout(5):
        while case.bus._subscribers[0].connected:
            await asyncio.sleep(0.05)
    assert not case.restored.is_set()
    case.server.thaw()
    await case.assert_recovered()


async def test_a_subscriber_disconnected_as_too_slow_reconnects(case: Case) -> None:
    with case.server.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 256kb 128kb 1")
        # `time.sleep`: a handler that blocks the loop is what makes a subscriber too slow.
        await case.bus.subscribe("stall", lambda _: time.sleep(1))
        flood = asyncio.to_thread(lambda: [client.publish(name, bytes(10_000)) for name in ["stall"] + ["c"] * 500])
        await asyncio.gather(flood, case.assert_recovered())


async def test_late_probes_behind_a_backlog_cause_no_reconnect(case: Case) -> None:
    """A new connection would lose the messages that are on their way."""
    # `time.sleep`: each message blocks the loop for a moment, so that they arrive faster than they are handled.
    await case.bus.subscribe("slow", lambda _: time.sleep(0.002))
    with case.server.client() as client:
        flood = client.pipeline(transaction=False)
        for _ in range(2500):
            flood.publish("slow", bytes(2000))
        await asyncio.to_thread(flood.execute)
    await case.bus.publish("c", b"last")
    assert await case.receiver.next(20) == b"last"
    assert not case.restored.is_set()


async def test_subscribe_and_unsubscribe_during_an_outage_take_effect_later(case: Case) -> None:
    await case.bus.subscribe("gone", Receiver())
    case.server.kill()
    async with asyncio.timeout(5):
        while case.bus._subscribers[0].connected:
            await asyncio.sleep(0.01)
    new = Receiver()
    subscribing = asyncio.ensure_future(case.bus.subscribe("new", new))
    await asyncio.wait_for(case.bus.unsubscribe("gone"), 1)
    with pytest.raises(RedisError):
        await case.bus.publish("c", b"lost")
    assert not subscribing.done()
    case.server.start()
    await case.assert_recovered()
    await asyncio.wait_for(subscribing, 1)
    assert await case.bus.publish("new", b"x") == 1
    assert await new.next() == b"x"
    assert await case.bus.publish("gone", b"x") == 0


async def test_stopping_the_bus_fails_pending_subscribes(tmp_path: Path) -> None:
    bus = Bus([f"unix://{tmp_path}/nothing.sock"])
    subscribing = asyncio.ensure_future(bus.subscribe("c", Receiver()))
    await asyncio.sleep(0.3)
    await bus.stop()
    with pytest.raises(RedisConnectionError, match="stopped"):
        await subscribing
    with pytest.raises(RedisConnectionError, match="stopped"):
        await bus.subscribe("c", Receiver())


async def test_an_unanswered_publish_times_out_and_is_not_retried(
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


async def test_the_bus_follows_sentinel_away_from_a_frozen_master(
    new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    """Here channels_redis receives nothing any more: the connection to the old master stays open and silent forever."""
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
        restored, receiver = asyncio.Event(), Receiver()
        bus.on_restored(restored.set)
        await bus.subscribe("c", receiver)
        old.freeze()
        await asyncio.wait_for(restored.wait(), 20)
        assert await bus.publish("c", b"hello") == 1
        assert await receiver.next() == b"hello"
        old.thaw()
        for _ in range(20):
            assert await bus.publish("c", b"again") == 1
            assert await receiver.next() == b"again"
            await asyncio.sleep(0.1)
        await bus.stop()
    finally:
        sentinel.stop()


async def test_a_bus_can_be_stopped_at_any_moment(redis_server: RedisServer) -> None:
    """Python 3.11's wait_for, in which redis-py writes, swallows a cancellation that comes at the wrong moment."""
    for turns in range(120):
        bus = Bus()
        subscribing = asyncio.ensure_future(bus.subscribe("c", Receiver()))
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.shield(bus.stop())
        await asyncio.gather(subscribing, return_exceptions=True)


async def test_forgetting_a_channel_ends_its_pending_subscribe(case: Case) -> None:
    case.server.freeze()
    confirmed = case.bus.begin("never", Receiver())
    await asyncio.sleep(0)
    case.bus.forget("never")
    case.server.kill()
    case.server.start()
    await case.assert_recovered()
    assert confirmed.done()


@pytest.mark.parametrize("gone", [0, 1])
async def test_only_publishes_to_a_frozen_host_fail(
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
    answered, lost = (begun[on_first:], begun[:on_first]) if gone == 0 else (begun[:on_first], begun[on_first:])
    assert await asyncio.gather(*answered) == [0] * len(answered)
    assert not any(future.done() for future in lost)
    await asyncio.wait(lost)
    assert all(isinstance(future.exception(), RedisTimeoutError) for future in lost)
    assert all(future.done() for future in behind)  # those behind have waited for as long
    servers[gone].thaw()
    await bus.stop()


async def test_a_publish_denied_by_redis_fails_alone(case: Case) -> None:
    with case.server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "resetchannels", "&c*")
    results = await case.bus.publish_each([("c", b"1"), ("forbidden", b"2"), ("c", b"3")])
    assert [results[0], results[2]] == [1, 1]
    assert isinstance(results[1], RedisError)
