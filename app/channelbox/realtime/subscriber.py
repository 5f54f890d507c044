"""Subscriptions at one Redis host: confirmed, in call order, restored after every loss, and probed."""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from channelbox.realtime.background_tasks import cancel, once, supervise
from channelbox.realtime.counters import counters
from channelbox.realtime.subscription_session import Handler, Session, Subscription, resolve

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0  # to connect and get every subscription confirmed
CONFIRM_SECONDS = 3.0  # of silence while subscriptions wait to be confirmed: reconnect
PROBE_SECONDS = 1.0  # between probes, and the longest that one may take
MAX_PROBES_MISSED = 2  # in silence: reconnect
MAX_PROBES_LATE = 10  # while other messages still arrive: a backlog, to which reconnecting would only add
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.05, 2.0  # between attempts to connect
MAX_CHANNELS = 500  # in one SUBSCRIBE

UNREACHABLE = (RedisError, OSError, TimeoutError)


async def _sleep_about(seconds: float) -> None:
    """Sleep for about that long: processes that lost the same Redis should not all return in one moment."""
    await asyncio.sleep(seconds * (0.5 + random.random()))  # noqa: S311 - no secret


class Subscriber:
    """Keeps a connection to a host, with all subscriptions there, for as long as the bus lives."""

    def __init__(self, pool: ConnectionPool, client: Redis, probe: str, restored: Callable[[], None]) -> None:
        """`probe`: the channel of the probes. `restored` is called after a reconnect, when all is confirmed again."""
        self.handlers: dict[bytes, Handler] = {}
        self._wanted: dict[bytes, Subscription] = {}
        self._pool = pool
        self._client = client
        self._restored = restored
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._disposals: set[asyncio.Task[None]] = set()
        self._stopped = False
        # Differs between subscribers: one process may have several, and each hears the others' probes.
        self._token = secrets.token_bytes(8)
        self._number = 0
        self._probe_channel = probe.encode()
        self._probe_heard: asyncio.Future[None] | None = None

    @property
    def connected(self) -> bool:
        """Return whether the subscriptions are active, as far as is known."""
        return self._session is not None and not self._session.lost.done()

    def subscribe(self, channel: bytes, handler: Handler) -> "asyncio.Future[None]":
        """Have `handler` called with each payload on a channel.

        Returns a future that ends when Redis has confirmed, or when the channel is unsubscribed; do not cancel it.
        Raises ValueError if the channel has a handler already, and ConnectionError of redis-py after `stop`.
        """
        if self._stopped:
            raise RedisConnectionError("The bus has been stopped")
        if channel in self._wanted:
            raise ValueError(f"{channel.decode()} has a handler already")
        subscription = Subscription(handler, asyncio.get_running_loop().create_future())
        self._wanted[channel] = subscription
        if self._session is not None and self.connected:
            self._session.subscribe([(channel, subscription)])
        elif self._task is None:
            self._task = supervise("bus", self._run)
        return subscription.confirmed

    def withdraw(self, channel: bytes, confirmed: "asyncio.Future[None]") -> None:
        """Unsubscribe if this is still the subscription that `subscribe` returned this future for."""
        subscription = self._wanted.get(channel)
        if subscription is not None and subscription.confirmed is confirmed:
            self.unsubscribe(channel)

    def unsubscribe(self, channel: bytes) -> "asyncio.Future[None]":
        """Stop calling the handler. The future ends when Redis has confirmed, or when it is not connected."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        subscription = self._wanted.pop(channel, None)
        self.handlers.pop(channel, None)
        if subscription is not None:
            resolve(subscription.confirmed)
        if subscription is not None and self._session is not None and self.connected:
            self._session.unsubscribe(channel, done)
        else:
            resolve(done)
        return done

    def _confirm(self, channel: bytes, subscription: Subscription) -> None:
        """Activate a subscription that Redis has confirmed."""
        if self._wanted.get(channel) is subscription or channel == self._probe_channel:
            self.handlers[channel] = subscription.handler
        resolve(subscription.confirmed)

    async def stop(self) -> None:
        """Close the connection. Callers that wait for a confirmation get an error."""
        self._stopped = True
        await cancel(self._task)
        await asyncio.gather(*self._disposals, return_exceptions=True)
        for subscription in self._wanted.values():
            if not subscription.confirmed.done():
                subscription.confirmed.set_exception(RedisConnectionError("The bus has been stopped"))
                subscription.confirmed.exception()  # marks it as retrieved: nobody has to await it
        self._wanted.clear()
        self.handlers.clear()

    async def _run(self) -> None:
        """Connect, watch the session, and connect again. Of failures in a row, the first is logged as a warning."""
        pause = MIN_PAUSE_SECONDS
        while True:
            # True also if an earlier connection was lost before all was confirmed: some may have relied on it.
            reconnecting = bool(self.handlers)
            try:
                session = await self._connect()
            except UNREACHABLE as error:
                logger.log(
                    logging.WARNING if pause == MIN_PAUSE_SECONDS else logging.DEBUG,
                    "Cannot connect to Redis, retrying: %r",
                    error,
                )
                await _sleep_about(pause)
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
                continue
            pause = MIN_PAUSE_SECONDS
            if reconnecting:
                counters.reconnects += 1
                logger.info("Reconnected to Redis with %d subscriptions", len(self._wanted))
                self._restored()
            try:
                reason = await self._watch(session)
            finally:
                session.close()
            logger.warning("Lost the subscription connection to Redis: %s", reason)
            await _sleep_about(MIN_PAUSE_SECONDS)

    async def _connect(self) -> Session:
        """Return a session with all wanted subscriptions confirmed. Sentinel, if any, is asked for the master again."""
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.connect()
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            session = Session(connection, self.handlers, self._confirm)
            try:
                self._session = session  # new subscriptions from now on queue behind the earlier ones
                wanted = list(self._wanted.items())
                for start in range(0, len(wanted), MAX_CHANNELS):
                    session.subscribe(wanted[start : start + MAX_CHANNELS])
                last = Subscription(self._on_probe, asyncio.get_running_loop().create_future())
                session.subscribe([(self._probe_channel, last)])
                await self._wait_confirmed(session, last.confirmed)
            except BaseException:
                session.close()
                raise
        return session

    async def _wait_confirmed(self, session: Session, confirmed: "asyncio.Future[None]") -> None:
        """Wait until the last subscription is confirmed. Those before it are relied on already: silence is a loss."""
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
        """Probe the session until it is over. Returns the reason."""
        missed = 0
        while True:
            reads = session.reads
            if await self._probe(session):
                missed = 0
            elif not session.lost.done():
                missed += 1
                if missed >= (MAX_PROBES_MISSED if session.reads == reads else MAX_PROBES_LATE):
                    self._drop_command_connections()
                    return f"{missed} probes were not received"
            if await self._master_changed(session):
                self._drop_command_connections()
                return "Sentinel names another master"
            await asyncio.wait((session.lost,), timeout=PROBE_SECONDS)
            if session.lost.done():
                return session.lost.result()

    async def _probe(self, session: Session) -> bool:
        """Publish a probe as any other message. Returns whether it was heard here in time."""
        self._number += 1
        self._probe_heard = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._client.publish(self._probe_channel, self._token + b"%d" % self._number)
                await asyncio.wait((self._probe_heard, session.lost), return_when=asyncio.FIRST_COMPLETED)
        except UNREACHABLE:
            return False
        return self._probe_heard.done()

    def _on_probe(self, payload: bytes) -> None:
        if self._probe_heard is not None and payload == self._token + b"%d" % self._number:
            resolve(self._probe_heard)

    async def _master_changed(self, session: Session) -> bool:
        """Return whether Sentinel names another master than that of the session. No answer is no reason to leave it."""
        if not isinstance(self._pool, SentinelConnectionPool) or session.lost.done():
            return False
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                address = await self._pool.get_master_address()  # type: ignore[no-untyped-call]
                return bool(address != session.address)
        except UNREACHABLE:
            return False

    def _drop_command_connections(self) -> None:
        """Close the connections for commands too: they may lead to a frozen or replaced master."""
        once("drop connections", self._disconnect_pool(), self._disposals)

    async def _disconnect_pool(self) -> None:
        try:
            await self._pool.disconnect()
        except UNREACHABLE as error:
            logger.debug("While dropping connections: %r", error)
