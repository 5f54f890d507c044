"""How long a step took, as counts in buckets: those of several processes can be added, percentiles cannot."""

import collections
import math
from collections.abc import Iterable, Mapping

Buckets = Mapping[int, int]

_FINEST = 0.0001  # s; all that is shorter falls into bucket 0
_GROWTH = 1.15  # each bucket is so much wider than the one before: a percentile is right to about 7 %


def bucket(seconds: float) -> int:
    """The number of the bucket that holds this duration."""
    return 0 if seconds <= _FINEST else math.ceil(math.log(seconds / _FINEST) / math.log(_GROWTH))


def count(durations: Iterable[float]) -> collections.Counter[int]:
    """Sorts durations in seconds into buckets."""
    return collections.Counter(bucket(seconds) for seconds in durations)


def percentile_ms(buckets: Buckets, share: float) -> float | None:
    """The duration in ms that `share` (0 to 1) of what was counted did not exceed; None when nothing was."""
    wanted = math.ceil(share * sum(buckets.values()))
    seen = 0
    for number in sorted(buckets):
        seen += buckets[number]
        if seen >= wanted:
            # The middle of the bucket, on its own scale.
            return round(_FINEST * _GROWTH ** (number - 0.5 if number else 0) * 1000, 2)
    return None
