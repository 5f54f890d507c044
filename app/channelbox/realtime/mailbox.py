"""What waits in this process for one consumer: bounded, in order, and gone with the consumer."""

import asyncio
import collections
import contextlib
from collections.abc import Callable
from typing import Any

from channelbox.realtime.counters import counters


class ChannelName(str):
    """The name of a channel of this process, which a consumer holds for as long as it lives.

    A weak reference to it tells that the consumer is gone, in whatever way it went: Channels does not tell
    (docs/decisions/channel-lifetime.md).
    """

    def __str__(self) -> str:
        return self  # str(name) is the same name, not a copy without a life of its own


def own(message: Any) -> Any:
    """A copy of what a serializer gave: a group's message is read once, and each consumer may change its own."""
    if isinstance(message, dict):
        return {key: own(value) for key, value in message.items()}
    if isinstance(message, list):
        return [own(value) for value in message]
    return message


class Mailbox:
    """The messages of one channel. Sent ones and group's ones keep the order in which they arrived."""

    def __init__(self, channel: str, capacity: int, expiry: float, received: Callable[[str], None]) -> None:
        """`expiry` in seconds after arrival. `received` is called for each sent message that leaves."""
        self.channel = channel  # a plain string, which keeps no ChannelName alive
        self.groups: set[str] = set()
        self._capacity = capacity
        self._expiry = expiry
        self._received = received
        self._messages: collections.deque[tuple[float, Any, bool]] = collections.deque()
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()
        self._loop = asyncio.get_running_loop()

    @property
    def full(self) -> bool:
        """Whether no group's message would be taken."""
        if len(self._messages) >= self._capacity:
            self._expire()
        return len(self._messages) >= self._capacity

    def put(self, message: Any, *, sent: bool = False) -> None:
        """Takes a message or drops it, counted, when full. Sent ones were counted in Redis before, and find a place."""
        if self.full and not sent:
            counters.dropped += 1
            return
        self._messages.append((self._loop.time() + self._expiry, message, sent))
        self._wake()

    async def get(self) -> Any:
        """The oldest message that has not expired. Cancelled: it stays for the next call."""
        while True:
            self._expire()
            if self._messages:
                _, message, sent = self._messages.popleft()
                if sent:
                    self._received(self.channel)
                    return message
                return own(message)
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
                if self._messages and not waiter.cancelled():
                    self._wake()  # it was this one's turn
                raise

    def clear(self) -> None:
        """Forgets all messages."""
        for _, _, sent in self._messages:
            if sent:
                self._received(self.channel)
        self._messages.clear()

    def _expire(self) -> None:
        now = self._loop.time()
        while self._messages and self._messages[0][0] < now:
            _, _, sent = self._messages.popleft()
            counters.dropped += 1
            if sent:
                self._received(self.channel)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
