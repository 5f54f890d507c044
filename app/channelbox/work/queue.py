"""The `work` channel layer: worker channels as Redis lists; each message goes to one of the workers."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgpack
from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import OutOfMemoryError

from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.redis_hosts import Host

logger = logging.getLogger(__name__)

ENQUEUE = Path(__file__).with_name("enqueue.lua").read_text()
EXPIRY_DIGITS = 13  # at the start of each entry: when it expires, in ms of Redis' clock
MAX_BULK_BYTES = 32 * 1024  # of bulk entries that are taken at once, so that their transaction is short
RECEIVE_SECONDS = 5.0  # of one wait in `receive`: shorter than the hosts' socket_timeout
TIMEOUT_SECONDS = 3.0  # for Redis to answer; where a call waits for entries, beyond that wait
UNPACK_ERRORS = (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException)


class WorkLayer(BaseChannelLayer):
    """Queue for workers, kept short: a full list refuses messages, late ones are dropped, and senders send again.

    hosts: as in `RedisHosts`; None: those of the settings, over the connections that the process has to them anyway.
    capacity: entries in a channel's list, beyond which `send` raises ChannelFull; `channel_capacity`: as in Channels.
    expiry: seconds, on Redis' clock, after which an entry is no longer delivered.
    capacity_bytes: bytes of Redis' memory that a list may take, beyond which `send` raises ChannelFull.

    Each entry of a list is delivered to at most one worker. A send that raised anything but ChannelFull may have
    reached the list all the same, and the message is in the list twice when it is sent again: consumers must make the
    second delivery harmless, as the store does. A worker that dies loses what it has taken.

    All methods raise redis' RedisError or OSError when Redis does not answer, at most 3 s after it should have. With
    several hosts, a channel's list is on the host that its name hashes to, unless the caller names another one: a
    channel may have a list on each host, for what belongs to that host. Groups and channels of a single process are not
    supported.
    """

    extensions = ["flush"]

    def __init__(
        self,
        hosts: Sequence[Host] | None = None,
        capacity: int = 1500,
        expiry: float = 3,
        channel_capacity: Mapping[Any, int] | None = None,
        capacity_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        super().__init__(expiry=expiry, capacity=capacity)
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self.capacity_bytes = capacity_bytes
        self._hosts = hosts
        self._bulk_bytes = float(MAX_BULK_BYTES)  # per bulk entry: the average of those that were taken last

    # --- The contract of a channel layer

    async def send(self, channel: str, message: Mapping[str, Any]) -> None:
        """Append a message to a worker channel. Raises ChannelFull at capacity."""
        await self.send_many(channel, [message])

    async def receive(self, channel: str) -> dict[str, Any]:
        """Wait for the next message of a channel and return it. A call that is cancelled may lose a message."""
        while True:
            if messages := await self.receive_many(channel, 1, RECEIVE_SECONDS):
                return messages[0]

    async def flush(self) -> None:
        """Delete the messages of all worker channels."""
        for client in Bus.current(self._hosts).clients():
            for pattern in (redis_keys.queue("*"), redis_keys.bulk_queue("*")):
                async for name in client.scan_iter(match=pattern, count=1000):
                    await client.unlink(name)

    # --- Several at once

    @property
    def hosts(self) -> int:
        """Return the number of Redis hosts."""
        return len(Bus.current(self._hosts).clients())

    async def send_many(
        self, channel: str, messages: Iterable[Mapping[str, Any]], host: int | None = None, *, bulk: bool = False
    ) -> None:
        """Append messages to a worker channel in one step: all of them, or none, and then ChannelFull is raised.

        They are packed in one turn of the event loop, so a caller with many bytes makes several calls.

        `host`: index of the Redis host; None: the one that the channel's name hashes to. `bulk`: append to the
        channel's second list, which has a capacity of its own and is read separately.
        """
        self.require_valid_channel_name(channel)
        entries = [msgpack.packb(message) for message in messages]
        if not entries:
            return
        name = _list_name(channel, bulk)
        limits = self.get_capacity(channel), self.capacity_bytes, round(self.expiry * 1000)
        enqueue = AsyncScript(self._client(channel, host), ENQUEUE)
        try:
            # All rooms of this host wait for this call: notice a frozen host sooner than its socket_timeout does.
            async with asyncio.timeout(TIMEOUT_SECONDS):
                taken, dropped = await enqueue([name], [*limits, *entries])
        except OutOfMemoryError as error:
            raise ChannelFull(f"Redis is out of memory: {error}") from error
        counters.expired += dropped
        if not taken:
            raise ChannelFull(f"{channel} is full: {limits[0]} messages or {limits[1]} bytes are waiting")

    async def receive_many(
        self, channel: str, limit: int, timeout: float, host: int | None = None, *, bulk: bool = False
    ) -> list[dict[str, Any]]:
        """Take up to `limit` messages, oldest first, as soon as there is one; wait `timeout` s (0 < timeout <= 5).

        From the bulk list, take at most about 32 KiB. Returns an empty list when no entry came, or when all had expired
        or were unreadable. `host`, `bulk`: as in `send_many`.
        """
        self.require_valid_channel_name(channel)
        name = _list_name(channel, bulk)
        more = limit - 1
        if bulk:
            more = min(more, max(1, int(MAX_BULK_BYTES / self._bulk_bytes)))
        # One round trip. The first command blocks, so Redis runs the others only when the wait is over: also TIME,
        # with which the expiry of the entries is compared.
        pipe = self._client(channel, host).pipeline(transaction=False)
        pipe.blmpop(timeout, 1, name, direction="LEFT", count=1)
        if more:
            pipe.lmpop(1, name, direction="LEFT", count=more)
        pipe.time()
        async with asyncio.timeout(timeout + TIMEOUT_SECONDS):
            *popped, (seconds, micros) = await pipe.execute()
        entries: list[bytes] = [entry for _, some in filter(None, popped) for entry in some]
        if bulk and entries:
            self._bulk_bytes = sum(map(len, entries)) / len(entries)
        return _unpack(channel, entries, seconds * 1000 + micros // 1000)

    async def length(self, channel: str, host: int | None = None) -> int:
        """Return the number of entries in a channel's lists, expired ones included. `host`: as in `send_many`."""
        pipe = self._client(channel, host).pipeline(transaction=False)
        for bulk in (False, True):
            pipe.llen(_list_name(channel, bulk))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return sum(await pipe.execute())

    def _client(self, channel: str, host: int | None) -> Redis:
        """Return the client of the host that has these lists of the channel."""
        bus = Bus.current(self._hosts)
        return bus.client(redis_keys.queue(channel)) if host is None else bus.clients()[host]


def _list_name(channel: str, bulk: bool) -> str:
    return redis_keys.bulk_queue(channel) if bulk else redis_keys.queue(channel)


def _unpack(channel: str, entries: list[bytes], now: int) -> list[dict[str, Any]]:
    """Return the messages of these entries. Expired entries are counted, unreadable ones logged."""
    messages = []
    for entry in entries:
        try:
            expires = int(entry[:EXPIRY_DIGITS])
            message = msgpack.unpackb(entry[EXPIRY_DIGITS:], strict_map_key=False)
            if not isinstance(message, dict):
                raise TypeError(type(message).__name__)
        except UNPACK_ERRORS as error:
            logger.warning("Dropped an unreadable entry from %s: %s", channel, error)
            continue
        if expires < now:
            counters.expired += 1
        else:
            messages.append(message)
    return messages
