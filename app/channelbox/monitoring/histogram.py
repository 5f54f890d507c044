"""Durations as counts in buckets: counts of several processes can be added, percentiles cannot."""

import collections
import math
from collections.abc import Iterable, Mapping

Buckets = Mapping[int, int]

_FINEST = 0.0001  # s; shorter durations fall into bucket 0
_GROWTH = 1.15  # factor from one bucket's width to the next: percentiles are accurate to about 7 %


def bucket(seconds: float) -> int:
    """Return the number of the bucket that holds a duration."""
    return 0 if seconds <= _FINEST else math.ceil(math.log(seconds / _FINEST) / math.log(_GROWTH))


def count(durations: Iterable[float]) -> collections.Counter[int]:
    """Count durations, in seconds, by bucket."""
    return collections.Counter(bucket(seconds) for seconds in durations)


def percentile_ms(buckets: Buckets, share: float) -> float | None:
    """Return the duration in ms that `share` (0 to 1) of those counted did not exceed; None if none were counted."""
    wanted = math.ceil(share * sum(buckets.values()))
    seen = 0
    for number in sorted(buckets):
        seen += buckets[number]
        if seen >= wanted:
            # The middle of the bucket, on the logarithmic scale.
            return round(_FINEST * _GROWTH ** (number - 0.5 if number else 0) * 1000, 2)
    return None
