"""One Redis host's subscriptions: confirmed, in call order, restored after every loss, and probed."""

import asyncio
import collections
import logging
import random
import secrets
from collections.abc import Callable, Iterable
from typing import Any, cast

import hiredis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from channelbox.logs import Repeats, describe, place_of, repeated
from channelbox.realtime.counters import counters
from channelbox.realtime.supervision import cancel, supervise

logger = logging.getLogger(__name__)

Handler = Callable[[bytes], None]

CONNECT_SECONDS = 10.0  # to connect and have every subscription confirmed
CONFIRM_SECONDS = 3.0  # of silence while subscriptions wait to be confirmed: connect anew
PROBE_SECONDS = 1.0  # between probes, and the longest that one may take
PROBES_MISSED = 2  # in silence: reconnect
PROBES_LATE = 10  # while other messages still arrive: a backlog, and reconnecting would only add to it
PAUSE_LEAST, PAUSE_MOST = 0.05, 2.0  # seconds between attempts to connect
CHANNELS_A_COMMAND = 500

UNREACHABLE = (RedisError, OSError, TimeoutError)
_MISSING = object()
_repeats = Repeats()


def _pack(*words: bytes) -> bytes:
    """A command in Redis' protocol."""
    return b"".join((b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)))


class _Subscription:
    """What was asked for: who is called, and when Redis has confirmed it."""

    __slots__ = ("confirmed", "handler")

    def __init__(self, handler: Handler, confirmed: "asyncio.Future[None]") -> None:
        self.handler = handler
        self.confirmed = confirmed


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def _spread(seconds: float) -> None:
    """Sleeps about that long: processes that lost one Redis should not all return in one moment."""
    await asyncio.sleep(seconds * (0.5 + random.random()))  # noqa: S311 - no secret


def _ignored(channel: bytes, error: Exception) -> None:
    """Tell of a message that its handler could not take: whoever reaches Redis can send many."""
    counters.ignored += 1
    if (held := _repeats.pass_on((type(error), place_of(error)))) is not None:
        name = channel.decode(errors="replace")
        logger.warning("A message on %s is ignored: %s%s", name, describe(error), repeated(held))


def take_over(connection: Any) -> asyncio.StreamWriter:
    """Take the open stream out of a connection of redis-py's, which has connected and signed in, and return it.

    docs/decisions/subscriber.md says why. Raises RuntimeError when redis-py does not keep it where it used to.
    """
    writer = getattr(connection, "_writer", None)
    if not isinstance(writer, asyncio.StreamWriter) or not isinstance(connection._reader, asyncio.StreamReader):
        raise RuntimeError("redis-py keeps its streams elsewhere: see docs/decisions/subscriber.md for what to do")
    connection._reader = connection._writer = None
    return writer


class Session(asyncio.Protocol):
    """One connection that only subscribes. Reads without a task: a read's messages are all handled where it arrives."""

    def __init__(self, subscriber: "Subscriber", connection: Any) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.reads = 0
        self.address = (getattr(connection, "host", None), getattr(connection, "port", None))
        self._subscriber = subscriber
        # Answers come in the order of the commands: what each confirms, and who waits for it.
        self._due: collections.deque[tuple[bytes, bytes, _Subscription | asyncio.Future[None]]] = collections.deque()
        self._replies = hiredis.Reader(notEnoughData=_MISSING)
        # The writer is kept because it closes the transport when it is collected.
        self._writer = take_over(connection)
        self._transport: asyncio.Transport = cast(asyncio.Transport, self._writer.transport)
        self._transport.set_protocol(self)

    def subscribe(self, subscriptions: Iterable[tuple[bytes, _Subscription]]) -> None:
        some = list(subscriptions)
        self._due.extend((b"subscribe", channel, subscription) for channel, subscription in some)
        self._transport.write(_pack(b"SUBSCRIBE", *(channel for channel, _ in some)))

    def unsubscribe(self, channel: bytes, done: "asyncio.Future[None]") -> None:
        self._due.append((b"unsubscribe", channel, done))
        self._transport.write(_pack(b"UNSUBSCRIBE", channel))

    def close(self) -> None:
        self._transport.abort()
        self._ended("closed")

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        replies, live = self._replies, self._subscriber.live
        replies.feed(data)
        try:
            while (reply := replies.gets()) is not _MISSING:
                if type(reply) is list and reply[0] == b"message":
                    if handler := live.get(reply[1]):
                        try:
                            handler(reply[2])
                        except Exception as error:
                            _ignored(reply[1], error)
                else:
                    self._confirmed(reply)
        except (hiredis.HiredisError, RedisError) as error:
            self._transport.abort()
            self._ended(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(str(exc or "Redis closed the connection"))

    def _confirmed(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            raise RedisConnectionError(f"Redis refused a subscription: {reply}")
        kind, channel, what = self._due.popleft() if self._due else (b"", b"", None)
        if reply[:2] != [kind, channel]:
            raise RedisConnectionError(f"Redis answered {reply!r} where {kind!r} of {channel!r} was due")
        if isinstance(what, _Subscription):
            self._subscriber.confirmed(channel, what)
        elif what is not None:
            _resolve(what)

    def _ended(self, reason: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        for _, _, what in self._due:
            if not isinstance(what, _Subscription):  # what is no longer connected is no longer subscribed
                _resolve(what)
        self._due.clear()


class Subscriber:
    """Keeps one connection to a host, with what is subscribed there, for as long as the bus lives."""

    def __init__(self, pool: ConnectionPool, client: Redis, probe: str, restored: Callable[[], None]) -> None:
        """`probe` is the channel of the probes; `restored` is called after a reconnect, with all confirmed again."""
        self.live: dict[bytes, Handler] = {}
        self._wanted: dict[bytes, _Subscription] = {}
        self._pool = pool
        self._client = client
        self._restored = restored
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._disposals: set[asyncio.Task[None]] = set()
        self._stopped = False
        # Of this subscriber alone: one process may have several, each hearing the others' probes.
        self._token = secrets.token_bytes(8)
        self._number = 0
        self._probe_channel = probe.encode()
        self._answer: asyncio.Future[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether what is subscribed is heard, as far as is known."""
        return self._session is not None and not self._session.lost.done()

    def subscribe(self, channel: bytes, handler: Handler) -> "asyncio.Future[None]":
        """Return a future that ends when Redis has confirmed, or when this is unsubscribed. Do not cancel it."""
        if self._stopped:
            raise RedisConnectionError("The bus has been stopped")
        if channel in self._wanted:
            raise ValueError(f"{channel.decode()} has a handler already")
        subscription = _Subscription(handler, asyncio.get_running_loop().create_future())
        self._wanted[channel] = subscription
        if self._session is not None and self.connected:
            self._session.subscribe([(channel, subscription)])
        elif self._task is None:
            self._task = supervise("bus", self._run)
        return subscription.confirmed

    def withdraw(self, channel: bytes, confirmed: "asyncio.Future[None]") -> None:
        """Unsubscribes if this is still the subscription that `subscribe` returned this future for."""
        subscription = self._wanted.get(channel)
        if subscription is not None and subscription.confirmed is confirmed:
            self.unsubscribe(channel)

    def unsubscribe(self, channel: bytes) -> "asyncio.Future[None]":
        """From now on the handler is not called; the future ends when Redis has confirmed or is not connected."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        subscription = self._wanted.pop(channel, None)
        self.live.pop(channel, None)
        if subscription is not None:
            _resolve(subscription.confirmed)
        if subscription is not None and self._session is not None and self.connected:
            self._session.unsubscribe(channel, done)
        else:
            _resolve(done)
        return done

    def confirmed(self, channel: bytes, subscription: _Subscription) -> None:
        """Redis has confirmed a subscription; called by the session."""
        if self._wanted.get(channel) is subscription or channel == self._probe_channel:
            self.live[channel] = subscription.handler
        _resolve(subscription.confirmed)

    async def stop(self) -> None:
        """Closes the connection; whoever waits for a confirmation gets an error."""
        self._stopped = True
        await cancel(self._task)
        await asyncio.gather(*self._disposals, return_exceptions=True)
        for subscription in self._wanted.values():
            if not subscription.confirmed.done():
                subscription.confirmed.set_exception(RedisConnectionError("The bus has been stopped"))
                subscription.confirmed.exception()  # who waits gets it; if nobody does, that is no news
        self._wanted.clear()
        self.live.clear()

    async def _run(self) -> None:
        """Connects, watches, and connects again. Of failures in a row the first is logged."""
        pause = PAUSE_LEAST
        while True:
            # Also where an earlier connection was lost before everything was confirmed: some may have relied on it.
            again = bool(self.live)
            try:
                session = await self._connect()
            except UNREACHABLE as error:
                logger.log(logging.WARNING if pause == PAUSE_LEAST else logging.DEBUG, "Redis: %r", error)
                await _spread(pause)
                pause = min(pause * 2, PAUSE_MOST)
                continue
            pause = PAUSE_LEAST
            if again:
                counters.reconnects += 1
                logger.info("Connected to Redis again, with %d subscriptions", len(self._wanted))
                self._restored()
            try:
                reason = await self._watch(session)
            finally:
                session.close()
            logger.warning("Lost the subscriptions at Redis: %s", reason)
            await _spread(PAUSE_LEAST)

    async def _connect(self) -> Session:
        """A session with everything confirmed that is wanted. Sentinel, if any, is asked for the master anew."""
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = self._pool.make_connection()
            try:
                await connection.connect()
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            session = Session(self, connection)
            try:
                self._session = session  # subscriptions asked for from now on queue behind those of before
                wanted = list(self._wanted.items())
                for start in range(0, len(wanted), CHANNELS_A_COMMAND):
                    session.subscribe(wanted[start : start + CHANNELS_A_COMMAND])
                last = _Subscription(self._heard_probe, asyncio.get_running_loop().create_future())
                session.subscribe([(self._probe_channel, last)])
                await self._complete(session, last.confirmed)
            except BaseException:
                session.close()
                raise
        return session

    async def _complete(self, session: Session, confirmed: "asyncio.Future[None]") -> None:
        """Returns when the last subscription is confirmed. Those before it are relied on already: silence is a loss."""
        silent = 0.0
        while not confirmed.done():
            reads = session.reads
            await asyncio.wait((confirmed, session.lost), timeout=PROBE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if session.lost.done():
                raise RedisConnectionError(session.lost.result())
            silent = silent + PROBE_SECONDS if session.reads == reads else 0.0
            if silent >= CONFIRM_SECONDS:
                raise RedisConnectionError(f"No subscription was confirmed for {CONFIRM_SECONDS:g} s")

    async def _watch(self, session: Session) -> str:
        """Returns why the session is over."""
        missed = 0
        while True:
            reads = session.reads
            if await self._probe(session):
                missed = 0
            elif not session.lost.done():
                missed += 1
                if missed >= (PROBES_MISSED if session.reads == reads else PROBES_LATE):
                    self._drop_commands()
                    return f"{missed} probes were not heard"
            if await self._moved(session):
                self._drop_commands()
                return "Sentinel names another master"
            await asyncio.wait((session.lost,), timeout=PROBE_SECONDS)
            if session.lost.done():
                return session.lost.result()

    async def _probe(self, session: Session) -> bool:
        """Publishes as everybody publishes and waits until that is heard here."""
        self._number += 1
        self._answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._client.publish(self._probe_channel, self._token + b"%d" % self._number)
                await asyncio.wait((self._answer, session.lost), return_when=asyncio.FIRST_COMPLETED)
        except UNREACHABLE:
            return False
        return self._answer.done()

    def _heard_probe(self, payload: bytes) -> None:
        if self._answer is not None and payload == self._token + b"%d" % self._number:
            _resolve(self._answer)

    async def _moved(self, session: Session) -> bool:
        """Whether Sentinel names another master than the one that is listened to. No answer is no reason to leave."""
        if not isinstance(self._pool, SentinelConnectionPool) or session.lost.done():
            return False
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return bool(await self._pool.get_master_address() != session.address)
        except UNREACHABLE:
            return False

    def _drop_commands(self) -> None:
        """Ends the commands' connections too: they may lead to a frozen or replaced master."""
        task = asyncio.ensure_future(self._disconnect_pool())
        self._disposals.add(task)
        task.add_done_callback(self._disposals.discard)

    async def _disconnect_pool(self) -> None:
        try:
            await self._pool.disconnect()
        except UNREACHABLE as error:
            logger.debug("While dropping connections: %r", error)
