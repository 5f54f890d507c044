"""The bus: publishes and subscribes over all Redis hosts, with one instance for each event loop."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Sequence
from typing import Any, ClassVar, TypeVar

from django.conf import settings
from redis.asyncio import Redis

from channelbox.realtime import redis_keys
from channelbox.realtime.publisher import Publisher
from channelbox.realtime.redis_hosts import Host, RedisHosts
from channelbox.realtime.subscriber import Subscriber
from channelbox.realtime.subscription_session import Handler

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Bus:
    """Confirmed subscriptions, publishing, and the hosts' Redis clients. Connections are opened on first use."""

    _buses: ClassVar[dict[asyncio.AbstractEventLoop, dict[str, "Bus"]]] = {}
    _stop_generators: ClassVar[dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()
    # Cache of `current()`: the bus of the last call, with its loop and the hosts of the settings.
    _last_current: ClassVar[tuple[asyncio.AbstractEventLoop, Sequence[Host], "Bus"] | None] = None

    def __init__(self, hosts: Sequence[Host] | None = None) -> None:
        """Make a separate bus; `current()` returns the shared one. `hosts` as in `RedisHosts`."""
        self.hosts = RedisHosts(hosts)
        self.shared: dict[Hashable, Any] = {}  # other objects with the lifetime of this bus
        self._callbacks: list[Callable[[], None]] = []
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._publishers = [Publisher(pool) for pool in self.hosts.pools]
        probe = redis_keys.probe(redis_keys.process_name())
        self._subscribers = [
            Subscriber(pool, client, probe, self._call_restored)
            for pool, client in zip(self.hosts.pools, self.hosts.clients, strict=True)
        ]

    @classmethod
    def current(cls, hosts: Sequence[Host] | None = None) -> "Bus":
        """Return the running event loop's bus to these hosts (None: those of the settings).

        It is made on the first call and stops with the loop, or when `stop()` is called.
        """
        loop = asyncio.get_running_loop()
        last = cls._last_current
        if last is not None and hosts is None and last[0] is loop and last[1] is settings.CHANNELBOX_REDIS_HOSTS:
            return last[2]
        asked = settings.CHANNELBOX_REDIS_HOSTS if hosts is None else hosts
        name = repr(asked)
        with cls._lock:
            if loop not in cls._buses:
                cls._buses[loop] = {}
                cls._stop_with(loop)
            buses = cls._buses[loop]
            if name not in buses:
                buses[name] = cls(hosts)
            if hosts is None:
                cls._last_current = loop, asked, buses[name]
            return buses[name]

    def share(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the object kept under this key for the lifetime of this bus; `make` creates it on the first call."""
        if key not in self.shared:
            self.shared[key] = make()
        shared: T = self.shared[key]
        return shared

    @classmethod
    def _stop_with(cls, loop: asyncio.AbstractEventLoop) -> None:
        """Stop the buses of the running loop when the loop ends.

        Before a loop is closed, its started asynchronous generators are closed (`shutdown_asyncgens`). `asyncio.run`
        does so, and `async_to_sync`, which makes a loop for each call from sync code.
        """
        # Loops that were closed without `shutdown_asyncgens`
        for other in [other for other in cls._stop_generators if other.is_closed()]:
            del cls._stop_generators[other]
            cls._buses.pop(other, None)
        generator = cls._stop_generators[loop] = cls._stop_on_close(loop)
        with contextlib.suppress(StopIteration):  # runs the generator up to its yield
            generator.__anext__().send(None)

    @classmethod
    async def _stop_on_close(cls, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with cls._lock:
                cls._stop_generators.pop(loop, None)
                buses = cls._buses.pop(loop, {})
                cls._last_current = None
            for bus in buses.values():
                await bus.stop()

    async def subscribe(self, channel: str, handler: Handler) -> None:
        """Subscribe to a channel, and return when Redis has confirmed the subscription.

        `handler` is called synchronously with each payload; its exceptions are logged. Subscriptions take effect in
        call order. While Redis is unavailable, this waits until it is back. Raises ValueError if the channel has a
        handler already.
        """
        confirmed = self.begin(channel, handler)
        try:
            await asyncio.shield(confirmed)
        except asyncio.CancelledError:
            self._subscriber(channel).withdraw(channel.encode(), confirmed)
            raise

    def begin(self, channel: str, handler: Handler) -> "asyncio.Future[None]":
        """Subscribe as `subscribe` does, without waiting. Returns a future that ends when Redis has confirmed.

        Several callers may await the future; each must shield it. It also ends when the channel is unsubscribed.
        """
        return self._subscriber(channel).subscribe(channel.encode(), handler)

    async def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel, and return when Redis has confirmed, or at once if it is not connected.

        The handler is not called any more as soon as this coroutine starts.
        """
        await self._subscriber(channel).unsubscribe(channel.encode())

    def forget(self, channel: str) -> None:
        """Unsubscribe as `unsubscribe` does, without waiting."""
        self._subscriber(channel).unsubscribe(channel.encode())

    async def publish(self, channel: str, payload: bytes) -> int:
        """Publish a message at most once, and return the number of connections that received it.

        Messages from one process to one host are published in call order. Raises RedisError within 5 s if it is not
        known whether the message was published.
        """
        (receivers,) = self._publishers[self.hosts.index(channel)].begin([(channel, payload)])
        return await receivers

    async def publish_to_set(self, channel: str, payload: bytes) -> list[bytes]:
        """Publish as `publish` does, and return the members of the set of the same name, in one round trip."""
        publisher = self._publishers[self.hosts.index(channel)]
        receivers, members = publisher.begin_commands([("PUBLISH", channel, payload), ("SMEMBERS", channel)])
        await receivers
        return list(await members)

    def begin_publish(self, publishes: Sequence[tuple[str, bytes]]) -> list[asyncio.Future[int]]:
        """Publish messages, given as (channel, payload), in this order on each host, without waiting.

        Returns a future for each message. Its result is the number of connections that received the message; it raises
        RedisError within 5 s if it is not known whether the message was published. Hosts do not wait for each other: if
        one is down or hangs, only its messages fail.
        """
        by_host: dict[int, list[int]] = {}
        for position, (channel, _) in enumerate(publishes):
            by_host.setdefault(self.hosts.index(channel), []).append(position)
        begun: dict[int, asyncio.Future[int]] = {}
        for host, positions in by_host.items():
            futures = self._publishers[host].begin([publishes[position] for position in positions])
            begun.update(zip(positions, futures, strict=True))
        return [begun[position] for position in range(len(publishes))]

    async def publish_each(self, publishes: Sequence[tuple[str, bytes]]) -> list[int | BaseException]:
        """Publish as `begin_publish` does, and return for each message its number of receivers, or the exception."""
        return await asyncio.gather(*self.begin_publish(publishes), return_exceptions=True)

    async def publish_many(self, publishes: Sequence[tuple[str, bytes]]) -> None:
        """Publish as `begin_publish` does, for a caller that needs all of them. Raises RedisError if one failed."""
        for result in await self.publish_each(publishes):
            if isinstance(result, BaseException):
                raise result

    def on_restored(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever all subscriptions of a lost host are restored. Any message may have been missed."""
        self._callbacks.append(callback)

    def on_stop(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Await `closer` when the bus is stopped, while its connections still work."""
        self._closers.append(closer)

    def host(self, room: str) -> int:
        """Return the index of the host that carries a room's messages.

        The room's other data is kept on the same host, so that both are available or unavailable together.
        """
        return self.hosts.index(redis_keys.room(room))

    def client(self, name: str) -> Redis:
        """Return the command client of the host that holds this name. Its commands run once or raise RedisError."""
        return self.hosts.client(name)

    def clients(self) -> list[Redis]:
        """Return the command clients of all hosts."""
        return self.hosts.clients

    async def stop(self) -> None:
        """End all subscriptions and connections. Callers that wait for a confirmation get a ConnectionError."""
        with self._lock:
            for buses in self._buses.values():
                for name in [name for name, bus in buses.items() if bus is self]:
                    del buses[name]
            Bus._last_current = None
        results = await asyncio.gather(*(closer() for closer in self._closers), return_exceptions=True)
        self._closers.clear()
        for result in results:
            if isinstance(result, Exception):
                logger.error("Error while the bus was stopping", exc_info=result)
        await asyncio.gather(*(publisher.stop() for publisher in self._publishers))
        await asyncio.gather(*(subscriber.stop() for subscriber in self._subscribers))
        await self.hosts.aclose()

    def _subscriber(self, channel: str) -> Subscriber:
        return self._subscribers[self.hosts.index(channel)]

    def _call_restored(self) -> None:
        for callback in list(self._callbacks):
            try:
                callback()
            except Exception:
                logger.exception("A callback failed after the subscriptions were restored")
