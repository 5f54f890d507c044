"""One Redis host's subscriptions: confirmed, in call order, restored after every loss, and probed."""

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

CONNECT_SECONDS = 10.0  # to connect and have every subscription confirmed
CONFIRM_SECONDS = 3.0  # of silence while subscriptions wait to be confirmed: connect anew
PROBE_SECONDS = 1.0  # between probes, and the longest that one may take
MAX_PROBES_MISSED = 2  # in silence: reconnect
MAX_PROBES_LATE = 10  # while other messages still arrive: a backlog, and reconnecting would only add to it
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.05, 2.0  # seconds between attempts to connect
MAX_CHANNELS = 500

UNREACHABLE = (RedisError, OSError, TimeoutError)


async def _spread(seconds: float) -> None:
    """Sleeps about that long: processes that lost one Redis should not all return in one moment."""
    await asyncio.sleep(seconds * (0.5 + random.random()))  # noqa: S311 - no secret


class Subscriber:
    """Keeps one connection to a host, with what is subscribed there, for as long as the bus lives."""

    def __init__(self, pool: ConnectionPool, client: Redis, probe: str, restored: Callable[[], None]) -> None:
        """`probe` is the channel of the probes; `restored` is called after a reconnect, with all confirmed again."""
        self.live: dict[bytes, Handler] = {}
        self._wanted: dict[bytes, Subscription] = {}
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
        subscription = Subscription(handler, asyncio.get_running_loop().create_future())
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
            resolve(subscription.confirmed)
        if subscription is not None and self._session is not None and self.connected:
            self._session.unsubscribe(channel, done)
        else:
            resolve(done)
        return done

    def _confirm(self, channel: bytes, subscription: Subscription) -> None:
        """Redis has confirmed a subscription."""
        if self._wanted.get(channel) is subscription or channel == self._probe_channel:
            self.live[channel] = subscription.handler
        resolve(subscription.confirmed)

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
        pause = MIN_PAUSE_SECONDS
        while True:
            # Also where an earlier connection was lost before everything was confirmed: some may have relied on it.
            again = bool(self.live)
            try:
                session = await self._connect()
            except UNREACHABLE as error:
                logger.log(logging.WARNING if pause == MIN_PAUSE_SECONDS else logging.DEBUG, "Redis: %r", error)
                await _spread(pause)
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
                continue
            pause = MIN_PAUSE_SECONDS
            if again:
                counters.reconnects += 1
                logger.info("Connected to Redis again, with %d subscriptions", len(self._wanted))
                self._restored()
            try:
                reason = await self._watch(session)
            finally:
                session.close()
            logger.warning("Lost the subscriptions at Redis: %s", reason)
            await _spread(MIN_PAUSE_SECONDS)

    async def _connect(self) -> Session:
        """A session with everything confirmed that is wanted. Sentinel, if any, is asked for the master anew."""
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = self._pool.make_connection()
            try:
                await connection.connect()
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            session = Session(connection, self.live, self._confirm)
            try:
                self._session = session  # subscriptions asked for from now on queue behind those of before
                wanted = list(self._wanted.items())
                for start in range(0, len(wanted), MAX_CHANNELS):
                    session.subscribe(wanted[start : start + MAX_CHANNELS])
                last = Subscription(self._heard_probe, asyncio.get_running_loop().create_future())
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
                if missed >= (MAX_PROBES_MISSED if session.reads == reads else MAX_PROBES_LATE):
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
            resolve(self._answer)

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
        once("drop connections", self._disconnect_pool(), self._disposals)

    async def _disconnect_pool(self) -> None:
        try:
            await self._pool.disconnect()
        except UNREACHABLE as error:
            logger.debug("While dropping connections: %r", error)
