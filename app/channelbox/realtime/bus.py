"""The process's way to and from Redis' pub/sub: one for each event loop, over all hosts."""

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
    """Confirmed subscriptions, publishing, and the clients of the hosts. Nothing connects before it is used."""

    _all: ClassVar[dict[asyncio.AbstractEventLoop, dict[str, "Bus"]]] = {}
    _endings: ClassVar[dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()
    # The one that was asked for last, with its loop and the settings' hosts: mostly the same one is asked for again.
    _last: ClassVar[tuple[asyncio.AbstractEventLoop, Sequence[Host], "Bus"] | None] = None

    def __init__(self, hosts: Sequence[Host] | None = None) -> None:
        """Use `current()`, except for a bus of one's own. `hosts` as in `RedisHosts`."""
        self.hosts = RedisHosts(hosts)
        self.shared: dict[Hashable, Any] = {}  # what others keep for as long as this bus
        self._callbacks: list[Callable[[], None]] = []
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._publishers = [Publisher(pool) for pool in self.hosts.pools]
        probe = redis_keys.probe(redis_keys.process_name())
        self._subscribers = [
            Subscriber(pool, client, probe, self._restored)
            for pool, client in zip(self.hosts.pools, self.hosts.clients, strict=True)
        ]

    @classmethod
    def current(cls, hosts: Sequence[Host] | None = None) -> "Bus":
        """The running loop's bus to these hosts (None: those of the settings). Ends with the loop, or by `stop()`."""
        loop = asyncio.get_running_loop()
        last = cls._last
        if last is not None and hosts is None and last[0] is loop and last[1] is settings.CHANNELBOX_REDIS_HOSTS:
            return last[2]
        asked = settings.CHANNELBOX_REDIS_HOSTS if hosts is None else hosts
        name = repr(asked)
        with cls._lock:
            if loop not in cls._all:
                cls._all[loop] = {}
                cls._end_with(loop)
            buses = cls._all[loop]
            if name not in buses:
                buses[name] = cls(hosts)
            if hosts is None:
                cls._last = loop, asked, buses[name]
            return buses[name]

    def share(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under this key for as long as this bus; made when it is first asked for."""
        if key not in self.shared:
            self.shared[key] = make()
        kept: T = self.shared[key]
        return kept

    @classmethod
    def _end_with(cls, loop: asyncio.AbstractEventLoop) -> None:
        """Have the running loop stop its buses when it ends.

        asyncio closes the generators that a loop has begun before it closes the loop (`shutdown_asyncgens`):
        `asyncio.run` and `async_to_sync`, which makes a loop for each call from sync code, do it.
        """
        for other in [other for other in cls._endings if other.is_closed()]:  # by hand, without that
            del cls._endings[other]
            cls._all.pop(other, None)
        ending = cls._endings[loop] = cls._stopping(loop)
        with contextlib.suppress(StopIteration):  # it runs up to its yield
            ending.__anext__().send(None)

    @classmethod
    async def _stopping(cls, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with cls._lock:
                cls._endings.pop(loop, None)
                buses = cls._all.pop(loop, {})
                cls._last = None
            for bus in buses.values():
                await bus.stop()

    async def subscribe(self, channel: str, handler: Handler) -> None:
        """Has `handler` called with each payload, synchronously; returns when Redis has confirmed.

        Calls take effect in call order. While Redis is away this waits until it is back. A handler's exception is
        logged. Raises ValueError if the channel has a handler already.
        """
        confirmed = self.begin(channel, handler)
        try:
            await asyncio.shield(confirmed)
        except asyncio.CancelledError:
            self._subscriber(channel).withdraw(channel.encode(), confirmed)
            raise

    def begin(self, channel: str, handler: Handler) -> "asyncio.Future[None]":
        """As `subscribe`, for waiting later or by several: shield the future, which also ends with `forget`."""
        return self._subscriber(channel).subscribe(channel.encode(), handler)

    async def unsubscribe(self, channel: str) -> None:
        """The handler is not called from the first step on; returns when Redis has confirmed (if it is there)."""
        await self._subscriber(channel).unsubscribe(channel.encode())

    def forget(self, channel: str) -> None:
        """As `unsubscribe`, without waiting."""
        self._subscriber(channel).unsubscribe(channel.encode())

    async def publish(self, channel: str, payload: bytes) -> int:
        """Publishes once and returns how many connections heard it.

        Publishes of one process to one host keep the order of the calls. Raises RedisError if it is not known to have
        happened, within seconds.
        """
        (heard,) = self._publishers[self.hosts.index(channel)].begin([(channel, payload)])
        return await heard

    async def publish_to_set(self, channel: str, payload: bytes) -> list[bytes]:
        """Publish as `publish` does, and return the members of the set of the same name: one trip for both."""
        publisher = self._publishers[self.hosts.index(channel)]
        heard, members = publisher.begin_commands([("PUBLISH", channel, payload), ("SMEMBERS", channel)])
        await heard
        return list(await members)

    def begin_publish(self, publishes: Sequence[tuple[str, bytes]]) -> list[asyncio.Future[int]]:
        """Publish each once, in this order on each host, without waiting. Returns a future for each publish.

        A future gives how many connections heard it, or raises RedisError within 5 s when it is not known to have
        happened. Hosts do not wait for each other: those of one that is away or hangs fail by themselves.
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
        """Publish as `begin_publish` does, and return for each how many heard it, or why that is not known."""
        return await asyncio.gather(*self.begin_publish(publishes), return_exceptions=True)

    async def publish_many(self, publishes: Sequence[tuple[str, bytes]]) -> None:
        """Publish as `begin_publish` does, for a caller who needs all of them. Raises RedisError when one failed."""
        for result in await self.publish_each(publishes):
            if isinstance(result, BaseException):
                raise result

    def on_restored(self, callback: Callable[[], None]) -> None:
        """Has `callback` called when a lost host is back with all its subscriptions: anything may have been missed."""
        self._callbacks.append(callback)

    def on_stop(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Has `closer` awaited when the bus is stopped, while everything still works."""
        self._closers.append(closer)

    def host(self, room: str) -> int:
        """Which host a room is heard on. What belongs to the room is kept there too: one fate."""
        return self.hosts.index(redis_keys.room(room))

    def client(self, name: str) -> Redis:
        """The command client of the host that holds this name. Its commands run once or raise RedisError."""
        return self.hosts.client(name)

    def clients(self) -> list[Redis]:
        """The command clients of all hosts."""
        return self.hosts.clients

    async def stop(self) -> None:
        """Ends every subscription and connection. Who waits for a confirmation gets a ConnectionError."""
        with self._lock:
            for buses in self._all.values():
                for name in [name for name, bus in buses.items() if bus is self]:
                    del buses[name]
            Bus._last = None
        results = await asyncio.gather(*(closer() for closer in self._closers), return_exceptions=True)
        self._closers.clear()
        for result in results:
            if isinstance(result, Exception):
                logger.error("While the bus was stopped", exc_info=result)
        await asyncio.gather(*(publisher.stop() for publisher in self._publishers))
        await asyncio.gather(*(subscriber.stop() for subscriber in self._subscribers))
        await self.hosts.aclose()

    def _subscriber(self, channel: str) -> Subscriber:
        return self._subscribers[self.hosts.index(channel)]

    def _restored(self) -> None:
        for callback in list(self._callbacks):
            try:
                callback()
            except Exception:
                logger.exception("A callback failed after the subscriptions were back")
