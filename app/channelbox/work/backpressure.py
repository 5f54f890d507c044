"""Estimate how fast an outbox empties, and so how much it may hold for all of it to be stored soon."""

import time
from typing import NamedTuple, Self

WINDOW_SECONDS = 0.25  # of uninterrupted work, for one figure
STALE_SECONDS = 2.0  # without one: nothing comes back, and nothing is known
MIN_MESSAGES = 500  # messages that always fit


class Bounds(NamedTuple):
    """What an outbox may hold: messages, bytes of their texts, and no more than is stored within so many seconds."""

    messages: int
    bytes: int
    seconds: float

    def divided(self, parts: int) -> Self:
        """Return the bounds of one of so many equal parts."""
        return self._replace(messages=max(1, self.messages // parts), bytes=max(1, self.bytes // parts))


class ThroughputEstimate:
    """Messages a second that this process gets stored, measured while there is more to do.

    A message that would wait for longer than `seconds` is refused at once: its sender learns of it, and later messages
    do not wait behind it. While nothing comes back at all (no worker, no Redis) the rate is unknown, and up to `most`
    messages are held.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self._seconds = seconds
        self._rate = 0.0  # messages a second
        self._measured = 0.0
        self._since = time.monotonic()
        self._count = 0

    def finished(self, count: int, more: bool) -> None:
        """Record `count` completed messages. `more`: whether work remains."""
        now = time.monotonic()
        self._count += count
        if (passed := now - self._since) >= STALE_SECONDS:  # nothing came back for long: that says nothing of a rate
            self.begin()
        elif passed >= WINDOW_SECONDS:
            rate = self._count / passed
            fresh = now - self._measured < STALE_SECONDS
            self._rate = (self._rate + rate) / 2 if fresh else rate
            self._measured = now
            self._since, self._count = now, 0
        if not more:
            self.begin()

    def begin(self) -> None:
        """Begin to measure: there was nothing to do until now."""
        self._since, self._count = time.monotonic(), 0

    @property
    def room(self) -> float:
        """Messages that will be stored in time; `most` where that is not known."""
        if time.monotonic() - self._measured >= STALE_SECONDS:
            return self.most
        return min(self.most, max(MIN_MESSAGES, self._rate * self._seconds))
