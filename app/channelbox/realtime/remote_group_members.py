"""Group members that are not channels of this process.

A process-local channel (with a `!` in its name) joins a group in its own process: that process is asked to add or
remove it, and answers when that is done. A shared channel, which any process may receive from, is in a set in Redis,
which every sender to the group reads.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgpack
from redis.exceptions import TimeoutError as RedisTimeoutError

from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.subscriber import UNREACHABLE

ANSWER_SECONDS = 5.0
EXPIRY_SECONDS = 86_400  # of a group's set, after the last addition, as in channels_redis
DONE = "done"

Action = Callable[[str, str], Awaitable[None]]  # with a group and a channel of this process


class RemoteGroupMembers:
    """Adds and removes members in other processes, and does the same for them."""

    def __init__(self, bus: Bus, inbox: str, actions: Mapping[str, Action], spawn: Callable[..., object]) -> None:
        """`inbox`: that of this process. `actions`: what others may ask for, by name. `spawn` runs a coroutine."""
        self._bus = bus
        self._inbox = inbox
        self._actions = actions
        self._spawn = spawn
        self._pending: dict[str, asyncio.Future[None]] = {}

    async def request(self, action: str, group: str, channel: str, inbox: str) -> None:
        """Have the process of an inbox act on its channel. Returns when that is done.

        Does nothing if there is no such process. Raises RedisError if it does not answer. This process must be
        subscribed to its own inbox.
        """
        token = secrets.token_hex(8)
        done = self._pending[token] = asyncio.get_running_loop().create_future()
        try:
            if await self._publish(inbox, action, group, channel, self._inbox, token):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await done
        except TimeoutError:
            raise RedisTimeoutError(f"The process of {channel} did not answer within {ANSWER_SECONDS:g} s") from None
        finally:
            del self._pending[token]

    def handle(self, content: bytes) -> None:
        """Handle a request or answer of another process. Raises ValueError, TypeError or LookupError if malformed."""
        action, *fields = msgpack.unpackb(content)
        if action == DONE:
            if (done := self._pending.get(fields[0])) is not None and not done.done():
                done.set_result(None)
        else:
            group, channel, inbox, token = map(str, fields)
            self._spawn(self._perform(self._actions[action], group, channel, inbox, token))

    async def _perform(self, action: Action, group: str, channel: str, inbox: str, token: str) -> None:
        await action(group, channel)
        with contextlib.suppress(*UNREACHABLE):  # the process that asked raises
            await self._publish(inbox, DONE, token)

    def _publish(self, inbox: str, *fields: str) -> Coroutine[Any, Any, int]:
        return self._bus.publish(redis_keys.inbox(inbox), b"\0" + msgpack.packb(fields))  # addressed to no channel

    # --- Channels that any process may receive from

    async def list_channel(self, group: str, channel: str) -> None:
        """Add a shared channel to the set of a group."""
        pipeline = self._bus.client(redis_keys.group(group)).pipeline(transaction=False)
        pipeline.sadd(redis_keys.group(group), channel)
        pipeline.expire(redis_keys.group(group), EXPIRY_SECONDS)
        await pipeline.execute()

    async def unlist_channel(self, group: str, channel: str) -> None:
        """Remove a shared channel from the set of a group."""
        pipeline = self._bus.client(redis_keys.group(group)).pipeline(transaction=False)
        pipeline.srem(redis_keys.group(group), channel)
        await pipeline.execute()
