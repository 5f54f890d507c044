"""Bounded queue of the messages that wait in this process for one consumer, and end with it."""

import asyncio
import collections
import contextlib
from collections.abc import Callable
from typing import Any

from channelbox.realtime.counters import counters


class ChannelName(str):
    """Name of a channel of this process, which its consumer holds for as long as it lives.

    A weak reference to the name shows when the consumer is gone, however it ended: Channels does not report that
    (docs/decisions/channel-lifetime.md).
    """

    def __str__(self) -> str:
        return self  # str(name) must be this object: a copy would not keep the channel alive


def copy_message(message: Any) -> Any:
    """Copy a deserialized message: a group's message is deserialized once, and each consumer may change its copy."""
    if isinstance(message, dict):
        return {key: copy_message(value) for key, value in message.items()}
    if isinstance(message, list):
        return [copy_message(value) for value in message]
    return message


class Mailbox:
    """Messages of one channel. Those sent to it and those sent to its groups keep the order in which they arrived."""

    def __init__(self, channel: str, capacity: int, expiry: float, on_received: Callable[[str], None]) -> None:
        """`capacity`: messages. `expiry`: seconds after a message's arrival.

        `on_received` is called with the channel for each message that leaves, of those sent to the channel itself.
        """
        self.channel = channel  # a plain string, so as not to keep the ChannelName alive
        self.groups: set[str] = set()
        self._capacity = capacity
        self._expiry = expiry
        self._on_received = on_received
        self._messages: collections.deque[tuple[float, Any, bool]] = collections.deque()
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()
        self._loop = asyncio.get_running_loop()

    @property
    def full(self) -> bool:
        """Return whether a group's message would be dropped now."""
        if len(self._messages) >= self._capacity:
            self._expire()
        return len(self._messages) >= self._capacity

    def put(self, message: Any, *, sent: bool = False) -> None:
        """Add a message; when full, drop and count it.

        `sent`: it was sent to the channel itself, and is always added, since Redis has counted it against the capacity.
        """
        if self.full and not sent:
            counters.dropped += 1
            return
        self._messages.append((self._loop.time() + self._expiry, message, sent))
        self._wake()

    async def get(self) -> Any:
        """Return the oldest message that has not expired, waiting for one. If cancelled, it stays for the next call."""
        while True:
            self._expire()
            if self._messages:
                _, message, sent = self._messages.popleft()
                if sent:
                    self._on_received(self.channel)
                    return message
                return copy_message(message)
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
                if self._messages and not waiter.cancelled():
                    self._wake()  # this waiter had been woken: wake another
                raise

    def clear(self) -> None:
        """Delete all messages."""
        for _, _, sent in self._messages:
            if sent:
                self._on_received(self.channel)
        self._messages.clear()

    def _expire(self) -> None:
        now = self._loop.time()
        while self._messages and self._messages[0][0] < now:
            _, _, sent = self._messages.popleft()
            counters.dropped += 1
            if sent:
                self._on_received(self.channel)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
