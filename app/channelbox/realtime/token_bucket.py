"""Token buckets: how much a connection, a person and an address may send."""

import time
from collections.abc import Sequence


class Bucket:
    """Lets `burst` through at once and `rate` a second on average."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens", "whose")

    def __init__(self, rate: float, burst: float, whose: str = "") -> None:
        self.whose = whose  # for the sentence that refuses
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = time.monotonic()

    def wait(self, now: float | None = None) -> float:
        """Seconds until there is a token; 0 when there is one. `now`: by time.monotonic, if it was just read."""
        if now is None:
            now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._rate

    def spend(self, tokens: float = 1) -> None:
        """Takes tokens, also such as are not there: what was sent elsewhere. No deeper than one burst."""
        self._tokens = max(-self._burst, self._tokens - tokens)

    def refund(self) -> None:
        """Put back a token that was taken for something that was not done."""
        self._tokens = min(self._burst, self._tokens + 1)

    @property
    def full(self) -> bool:
        """Whether nothing is remembered of it that a new one would not know."""
        self.wait()
        return self._tokens >= self._burst


def take(buckets: Sequence[Bucket]) -> tuple[float, str]:
    """Take a token of each bucket, or none: seconds until all have one (0: taken), and whose bucket that is."""
    now = time.monotonic()
    longest, whose = 0.0, ""
    for bucket in buckets:
        if (wait := bucket.wait(now)) > longest:
            longest, whose = wait, bucket.whose
    if not longest:
        for bucket in buckets:
            bucket.spend()
    return longest, whose
