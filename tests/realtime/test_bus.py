"""The bus: confirmed, ordered, restored and probed."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.servers import RedisServer

from channelbox.realtime.bus import Bus


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    bus = Bus()
    yield bus
    await bus.stop()


class Heard:
    """A handler that keeps what it heard and can be waited for."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()

    def __call__(self, payload: bytes) -> None:
        self.queue.put_nowait(payload)

    async def next(self, seconds: float = 5) -> bytes:
        return await asyncio.wait_for(self.queue.get(), seconds)


async def test_what_is_published_after_subscribe_returned_is_heard(bus: Bus) -> None:
    other = Bus()
    for number in range(300):
        heard = Heard()
        await bus.subscribe(f"c{number}", heard)
        await other.publish(f"c{number}", b"%d" % number)
        assert await heard.next() == b"%d" % number
    await other.stop()


async def test_publish_says_how_many_heard_it(bus: Bus) -> None:
    assert await bus.publish("a", b"") == 0
    await bus.subscribe("a", Heard())
    assert await bus.publish("a", b"") == 1
    await bus.unsubscribe("a")
    assert await bus.publish("a", b"") == 0


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


async def test_a_frozen_redis_is_found_again_when_it_thaws(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    bus = Bus([server.url])
    restored = asyncio.Event()
    bus.on_restored(restored.set)
    heard = Heard()
    await bus.subscribe("c", heard)
    server.freeze()
    async with asyncio.timeout(5):
        while bus.connected:
            await asyncio.sleep(0.05)
    assert not restored.is_set()
    server.thaw()
    await asyncio.wait_for(restored.wait(), 15)
    await bus.publish("c", b"hello")
    assert await heard.next() == b"hello"
    await bus.stop()


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
