"""Estimates how fast an outbox empties, and so how much it may hold for all of it to be stored in time."""

import time
from typing import NamedTuple, Self

WINDOW_SECONDS = 0.25  # of uninterrupted work for one measurement
STALE_SECONDS = 2.0  # without a measurement, after which the rate is unknown: nothing comes back
MIN_MESSAGES = 500  # messages that always fit, however low the rate


class Bounds(NamedTuple):
    """Limits of an outbox: messages, bytes of their texts, and no more than is stored within `seconds`."""

    messages: int
    bytes: int
    seconds: float

    def divided(self, parts: int) -> Self:
        """Return the bounds of one of `parts` equal parts; `seconds` is the same for each."""
        return self._replace(messages=max(1, self.messages // parts), bytes=max(1, self.bytes // parts))


class ThroughputEstimate:
    """Messages per second that get stored for this process, measured while work remains.

    A message that would wait for longer than `seconds` is refused at once: its sender learns of it, and later messages
    do not wait behind it. While nothing comes back at all (no worker, no Redis) the rate is unknown, and up to
    `max_messages` are held.
    """

    def __init__(self, max_messages: int, seconds: float) -> None:
        self.max_messages = max_messages
        self._seconds = seconds
        self._rate = 0.0  # messages per second
        self._measured = 0.0
        self._since = time.monotonic()
        self._count = 0

    def record(self, count: int, more: bool) -> None:
        """Record `count` completed messages. `more`: whether work remains."""
        now = time.monotonic()
        self._count += count
        if (passed := now - self._since) >= STALE_SECONDS:  # nothing came back for long: no measure of the rate
            self.restart()
        elif passed >= WINDOW_SECONDS:
            rate = self._count / passed
            fresh = now - self._measured < STALE_SECONDS
            self._rate = (self._rate + rate) / 2 if fresh else rate
            self._measured = now
            self._since, self._count = now, 0
        if not more:
            self.restart()

    def restart(self) -> None:
        """Start a new measurement: until now there was no work."""
        self._since, self._count = time.monotonic(), 0

    @property
    def capacity(self) -> float:
        """Return how many messages will be stored in time; `max_messages` while that is unknown."""
        if time.monotonic() - self._measured >= STALE_SECONDS:
            return self.max_messages
        return min(self.max_messages, max(MIN_MESSAGES, self._rate * self._seconds))
