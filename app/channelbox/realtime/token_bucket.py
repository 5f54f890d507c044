"""Token buckets, which limit how much a connection, a person and an address may send."""

import time
from collections.abc import Sequence


class Bucket:
    """Token bucket: `burst` tokens at once, and `rate` tokens a second on average."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens", "whose")

    def __init__(self, rate: float, burst: float, whose: str = "") -> None:
        self.whose = whose  # words for a refusal: whose limit it was
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = time.monotonic()

    def wait(self, now: float | None = None) -> float:
        """Return the seconds until there is a token; 0 if there is one. `now`: time.monotonic(), if just read."""
        if now is None:
            now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._rate

    def spend(self, tokens: float = 1) -> None:
        """Take tokens, even missing ones: they were spent already, elsewhere. The debt is at most one burst."""
        self._tokens = max(-self._burst, self._tokens - tokens)

    def refund(self) -> None:
        """Put back a token that was taken for work that was not done."""
        self._tokens = min(self._burst, self._tokens + 1)

    @property
    def full(self) -> bool:
        """Return whether all tokens are there, so that a new bucket would be the same."""
        self.wait()
        return self._tokens >= self._burst


def take(buckets: Sequence[Bucket]) -> tuple[float, str]:
    """Take a token from each bucket, or none at all.

    Returns the seconds until all have one (0: taken), and `whose` of the bucket that takes longest.
    """
    now = time.monotonic()
    longest, whose = 0.0, ""
    for bucket in buckets:
        if (wait := bucket.wait(now)) > longest:
            longest, whose = wait, bucket.whose
    if not longest:
        for bucket in buckets:
            bucket.spend()
    return longest, whose
