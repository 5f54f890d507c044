"""A connection to Redis for subscriptions only: each is confirmed, in call order."""

import asyncio
import collections
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from channelbox.logs import Repeats, describe, place_of, repeated
from channelbox.realtime.counters import counters

logger = logging.getLogger(__name__)

Handler = Callable[[bytes], None]

_MISSING = object()
_repeats = Repeats()


def _pack(*words: bytes) -> bytes:
    """Return a command in Redis' protocol."""
    return b"".join((b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)))


class Subscription:
    """The handler of a channel, and the future that ends when Redis has confirmed."""

    __slots__ = ("confirmed", "handler")

    def __init__(self, handler: Handler, confirmed: "asyncio.Future[None]") -> None:
        self.handler = handler
        self.confirmed = confirmed


def resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _log_ignored(channel: bytes, error: Exception) -> None:
    """Count and log a message whose handler failed. Repeats are held back: anybody who reaches Redis can send many."""
    counters.ignored += 1
    if (held := _repeats.pass_on((type(error), place_of(error)))) is not None:
        name = channel.decode(errors="replace")
        logger.warning("Ignored a message on %s: %s%s", name, describe(error), repeated(held))


def take_over(connection: Any) -> asyncio.StreamWriter:
    """Take the open stream out of a redis-py connection that has connected and authenticated. Returns the writer.

    docs/decisions/subscriber.md says why. Raises RuntimeError when redis-py does not keep it where it used to.
    """
    writer = getattr(connection, "_writer", None)
    if not isinstance(writer, asyncio.StreamWriter) or not isinstance(connection._reader, asyncio.StreamReader):
        raise RuntimeError("redis-py keeps its streams elsewhere: see docs/decisions/subscriber.md for what to do")
    connection._reader = connection._writer = None
    return writer


class Session(asyncio.Protocol):
    """A connection for subscriptions only. Reads without a task: all messages of a read are handled when it arrives."""

    def __init__(
        self, connection: Any, handlers: Mapping[bytes, Handler], confirmed: Callable[[bytes, Subscription], None]
    ) -> None:
        """Take over the connection. `handlers`: by channel. `confirmed` is called for each confirmation."""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.reads = 0
        self.address = (getattr(connection, "host", None), getattr(connection, "port", None))
        self._handlers = handlers
        self._on_confirmed = confirmed
        # What each reply still to come confirms, and who waits for it. Replies come in the order of the commands.
        self._pending: collections.deque[tuple[bytes, bytes, Subscription | asyncio.Future[None]]] = collections.deque()
        self._replies = hiredis.Reader(notEnoughData=_MISSING)
        # Kept because the writer closes the transport when it is garbage-collected.
        self._writer = take_over(connection)
        self._transport: asyncio.Transport = cast(asyncio.Transport, self._writer.transport)
        self._transport.set_protocol(self)

    def subscribe(self, subscriptions: Iterable[tuple[bytes, Subscription]]) -> None:
        some = list(subscriptions)
        self._pending.extend((b"subscribe", channel, subscription) for channel, subscription in some)
        self._transport.write(_pack(b"SUBSCRIBE", *(channel for channel, _ in some)))

    def unsubscribe(self, channel: bytes, done: "asyncio.Future[None]") -> None:
        self._pending.append((b"unsubscribe", channel, done))
        self._transport.write(_pack(b"UNSUBSCRIBE", channel))

    def close(self) -> None:
        self._transport.abort()
        self._end("closed")

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        replies, handlers = self._replies, self._handlers
        replies.feed(data)
        try:
            while (reply := replies.gets()) is not _MISSING:
                if type(reply) is list and reply[0] == b"message":
                    if handler := handlers.get(reply[1]):
                        try:
                            handler(reply[2])
                        except Exception as error:
                            _log_ignored(reply[1], error)
                else:
                    self._on_reply(reply)
        except (hiredis.HiredisError, RedisError) as error:
            self._transport.abort()
            self._end(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc or "Redis closed the connection"))

    def _on_reply(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            raise RedisConnectionError(f"Redis refused a subscription: {reply}")
        kind, channel, waiter = self._pending.popleft() if self._pending else (b"", b"", None)
        if reply[:2] != [kind, channel]:
            raise RedisConnectionError(f"Redis answered {reply!r} where {kind!r} of {channel!r} was due")
        if isinstance(waiter, Subscription):
            self._on_confirmed(channel, waiter)
        elif waiter is not None:
            resolve(waiter)

    def _end(self, reason: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        for _, _, waiter in self._pending:
            if not isinstance(waiter, Subscription):  # a lost connection has unsubscribed everything
                resolve(waiter)
        self._pending.clear()
