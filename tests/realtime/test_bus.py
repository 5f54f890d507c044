"""The bus: confirmed subscriptions, and messages in the order in which they were published."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop
from django.conf import settings as settings_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.realtime.receiver import Receiver
from tests.support.servers import RedisServer

from channelbox.logs import Repeats
from channelbox.realtime import subscription_session
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    bus = Bus()
    yield bus
    await bus.stop()


async def test_messages_published_after_subscribe_returns_are_received(bus: Bus) -> None:
    other = Bus()
    for number in range(300):
        receiver = Receiver()
        await bus.subscribe(f"c{number}", receiver)
        await other.publish(f"c{number}", b"%d" % number)
        assert await receiver.next() == b"%d" % number
    await other.stop()


async def test_publish_returns_the_number_of_subscribers(bus: Bus) -> None:
    assert await bus.publish("a", b"") == 0
    await bus.subscribe("a", Receiver())
    assert await bus.publish("a", b"") == 1
    await bus.unsubscribe("a")
    assert await bus.publish("a", b"") == 0


async def test_handlers_are_called_in_publish_order(bus: Bus) -> None:
    received: list[bytes] = []
    done = Receiver()
    for channel in ("a", "b"):
        await bus.subscribe(channel, received.append)
    await bus.subscribe("done", done)
    await bus.publish_many([("ab"[n % 2], b"%d" % n) for n in range(5000)] + [("done", b"")])
    await done.next()
    assert received == [b"%d" % n for n in range(5000)]


async def test_concurrent_publishes_share_a_connection_and_keep_their_order(
    bus: Bus, redis_server: RedisServer
) -> None:
    received: list[int] = []
    done = Receiver()
    await bus.subscribe("c", lambda payload: received.append(int(payload)))
    await bus.subscribe("done", done)
    with redis_server.client() as client:
        before = len(client.client_list())
        counts = await asyncio.gather(*(bus.publish("c", b"%d" % number) for number in range(5000)))
        assert counts == [1] * 5000
        assert len(client.client_list()) <= before + 1
    await bus.publish("done", b"")
    await done.next()
    assert received == list(range(5000))


async def test_a_cancelled_publish_does_not_affect_others(bus: Bus) -> None:
    await bus.subscribe("c", Receiver())
    publishing = [asyncio.ensure_future(bus.publish("c", b"")) for _ in range(20)]
    await asyncio.sleep(0)
    for task in publishing[::2]:
        task.cancel()
    assert await asyncio.gather(*publishing[1::2]) == [1] * 10
    assert await bus.publish("c", b"") == 1


async def test_a_failing_handler_logs_one_line_and_affects_no_other(
    bus: Bus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_session, "_repeats", Repeats(), raising=False)
    ignored = getattr(counters, "ignored", 0)

    def fail(payload: bytes) -> None:
        raise ZeroDivisionError(payload)

    receiver = Receiver()
    await bus.subscribe("failing", fail)
    await bus.subscribe("heard", receiver)
    await bus.publish_many([("failing", b"1"), ("heard", b"2"), ("failing", b"3"), ("heard", b"4")])
    assert [await receiver.next(), await receiver.next()] == [b"2", b"4"]
    assert caplog.text.count("ZeroDivisionError: b") == 1
    assert "Traceback" not in caplog.text
    assert counters.ignored == ignored + 2


async def test_a_second_handler_of_a_channel_is_rejected(bus: Bus) -> None:
    await bus.subscribe("c", Receiver())
    with pytest.raises(ValueError, match="c has a handler"):
        await bus.subscribe("c", Receiver())


async def test_an_unsubscribed_handler_is_no_longer_called(bus: Bus) -> None:
    ended, fence = Receiver(), Receiver()
    await bus.subscribe("c", ended)
    await bus.subscribe("fence", fence)
    leaving = bus.unsubscribe("c")
    await bus.publish_many([("c", b"before the UNSUBSCRIBE"), ("fence", b"")])
    unsubscribing = asyncio.ensure_future(leaving)
    await fence.next()
    before = ended.queue.qsize()
    await unsubscribing
    await bus.publish_many([("c", b"after it"), ("fence", b"")])
    await fence.next()
    assert ended.queue.qsize() == before
    await bus.unsubscribe("c")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_last_of_rapid_subscribe_and_unsubscribe_calls_wins(
    redis_server: RedisServer, calls: list[tuple[str, bool]], seed: int
) -> None:
    async def run() -> None:
        bus, sender = Bus(), Bus()
        wanted: dict[str, Receiver] = {}
        ended: list[Receiver] = []
        waiting = []
        turns = random.Random(seed)
        for channel, subscribe in calls:
            if subscribe and channel not in wanted:
                wanted[channel] = Receiver()
                waiting.append(asyncio.ensure_future(bus.subscribe(channel, wanted[channel])))
                await asyncio.sleep(0)
            elif not subscribe:
                bus.forget(channel)
                if channel in wanted:
                    ended.append(wanted.pop(channel))
            for _ in range(turns.randrange(4)):
                await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(*waiting), 5)
        await sender.publish_many([(channel, channel.encode()) for channel in "abc"])
        fence = Receiver()
        await bus.subscribe("fence", fence)
        await sender.publish("fence", b"")
        await fence.next()
        assert {channel: receiver.queue.get_nowait() for channel, receiver in wanted.items()} == {
            channel: channel.encode() for channel in wanted
        }
        assert all(receiver.queue.empty() for receiver in [*wanted.values(), *ended])
        await bus.stop()
        await sender.stop()

    asyncio.run(run())


async def test_a_cancelled_subscribe_leaves_no_subscription(bus: Bus, redis_server: RedisServer) -> None:
    await bus.subscribe("fence", Receiver())
    for turns in range(12):
        subscribing = asyncio.ensure_future(bus.subscribe("c", Receiver()))
        for _ in range(turns):
            await asyncio.sleep(0)
        if subscribing.cancel():
            with pytest.raises(asyncio.CancelledError):
                await subscribing
        else:
            await bus.unsubscribe("c")
    await bus.subscribe("d", Receiver())
    with redis_server.client() as client:
        assert b"c" not in client.pubsub_channels()
    receiver = Receiver()
    await bus.subscribe("c", receiver)
    await bus.publish("c", b"once")
    assert await receiver.next() == b"once"
    assert receiver.queue.empty()


async def test_each_event_loop_has_one_bus_of_its_own() -> None:
    assert Bus.current() is Bus.current(settings_of.CHANNELBOX_REDIS_HOSTS)
    other = await asyncio.to_thread(lambda: asyncio.run(current()))
    assert other is not Bus.current()
    assert all(not loop.is_closed() for loop in Bus._buses)


async def current() -> Bus:
    return Bus.current()


def test_publish_and_subscribe_work_on_uvloop(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        before = len(client.client_list())

    async def run() -> bytes:
        receiver = Receiver()
        await Bus.current().subscribe("c", receiver)
        await Bus.current().publish("c", b"uvloop")
        return await receiver.next()

    assert uvloop.run(run()) == b"uvloop"
    with redis_server.client() as client:
        assert len(client.client_list()) == before


async def test_channels_are_spread_over_several_hosts(
    redis_server: RedisServer, new_redis: Callable[..., RedisServer]
) -> None:
    servers = [redis_server, new_redis()]
    bus = Bus([server.url for server in servers])
    receiver = Receiver()
    for number in range(100):
        await bus.subscribe(f"c{number}", receiver)
    await bus.publish_many([(f"c{number}", b"%d" % number) for number in range(100)])
    assert sorted([int(await receiver.next()) for _ in range(100)]) == list(range(100))
    for server in servers:
        with server.client() as client:
            assert 20 < len(client.pubsub_channels("c*")) < 80
    await bus.stop()
