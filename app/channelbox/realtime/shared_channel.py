"""Shared channels, which any process may receive from: a list in Redis, each message to exactly one receiver."""

import asyncio
import collections
import contextlib
import logging
from pathlib import Path

from channels.exceptions import ChannelFull
from redis.commands.core import AsyncScript

from channelbox.realtime.background_tasks import cancel, once, supervise
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.subscriber import UNREACHABLE

logger = logging.getLogger(__name__)

PUT_SCRIPT = Path(__file__).with_name("put_shared.lua").read_text()
EXPIRY_DIGITS = 13  # digits before each message: when it expires, in ms of Redis' clock
WAIT_SECONDS = 2  # one blocking call to Redis, shorter than any usual socket_timeout
RETRY_SECONDS = 0.5


class SharedChannel:
    """A shared channel in one process: a single blocking call to Redis serves all receivers here."""

    def __init__(self, bus: Bus, key: str) -> None:
        self._key = key
        self._client = bus.client(key)
        self._put_script = AsyncScript(self._client, PUT_SCRIPT)
        self._waiters: collections.deque[asyncio.Future[bytes]] = collections.deque()
        self._receiving: asyncio.Task[None] | None = None
        self._returning: set[asyncio.Task[None]] = set()

    async def put(self, payload: bytes, capacity: int, expiry: float) -> None:
        """Add a message. `capacity` in messages, `expiry` in seconds.

        Raises ChannelFull at capacity, and RedisError when it is not known whether the message was added.
        """
        taken, dropped = await self._put_script([self._key], [capacity, round(expiry * 1000), payload])
        counters.dropped += dropped
        if not taken:
            raise ChannelFull(f"{self._key} is full: {capacity} messages are waiting")

    async def get(self) -> bytes:
        """Return the oldest message that has not expired. If cancelled, it goes to the next receiver, anywhere."""
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._receiving is None or self._receiving.done():
            self._receiving = supervise(f"receive {self._key}", self._receive)
        try:
            return (await waiter)[EXPIRY_DIGITS:]
        except asyncio.CancelledError:
            if waiter.cancelled():
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
            else:
                once(f"give back to {self._key}", self._hand_over(waiter.result()), self._returning)
            raise

    async def close(self) -> None:
        """End the blocking call to Redis. Receivers that still wait here wait in vain."""
        await cancel(self._receiving)
        await asyncio.gather(*self._returning, return_exceptions=True)

    async def _receive(self) -> None:
        while self._waiters:
            pipe = self._client.pipeline(transaction=False)
            pipe.blpop([self._key], WAIT_SECONDS)
            pipe.time()  # answered when the wait is over: compared with the expiry, in the same round trip
            try:
                popped, (seconds, micros) = await pipe.execute()
            except UNREACHABLE as error:
                logger.warning("Cannot receive from %s: %s", self._key, error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if popped is not None:
                if int(popped[1][:EXPIRY_DIGITS]) < seconds * 1000 + micros // 1000:
                    counters.dropped += 1
                else:
                    await self._hand_over(popped[1])

    async def _hand_over(self, entry: bytes) -> None:
        """Hand an entry to the first receiver that waits here, or put it back at the head of the list."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(entry)
                return
        try:
            pipe = self._client.pipeline()
            pipe.lpush(self._key, entry)
            pipe.pexpireat(self._key, int(entry[:EXPIRY_DIGITS]), nx=True)
            await pipe.execute()
        except UNREACHABLE as error:
            counters.dropped += 1
            logger.warning("Cannot return a message to %s: %s", self._key, error)
