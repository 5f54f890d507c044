"""Token buckets: how much a connection, a person and an address may send."""

import time
from collections.abc import Iterable


class Bucket:
    """Lets `burst` through at once and `rate` a second on average."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens", "whose")

    def __init__(self, rate: float, burst: float, whose: str = "") -> None:
        self.whose = whose  # for the sentence that refuses
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = time.monotonic()

    def wait(self) -> float:
        """Seconds until there is a token; 0 when there is one."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._rate

    def spend(self, tokens: float = 1) -> None:
        """Takes tokens, also such as are not there: what was sent elsewhere. No deeper than one burst."""
        self._tokens = max(-self._burst, self._tokens - tokens)

    @property
    def full(self) -> bool:
        """Whether nothing is remembered of it that a new one would not know."""
        self.wait()
        return self._tokens >= self._burst


def take(buckets: Iterable[Bucket]) -> tuple[float, str]:
    """A token of each, or of none: the seconds to wait until all have one, and whose bucket that is."""
    buckets = tuple(buckets)
    slowest = max(buckets, key=Bucket.wait)
    if wait := slowest.wait():
        return wait, slowest.whose
    for bucket in buckets:
        bucket.spend()
    return 0.0, ""
