"""Rate at which a connection is read: limited by its own buckets of frames and bytes, its person's and its address'."""

import random
import time
from collections.abc import Callable

from channelbox.realtime.admission import Kind, connection_limit
from channelbox.realtime.token_bucket import Bucket

SLICE_FRAMES = 32  # of one client in one turn of the event loop: about 0.1 ms
SLICE_BYTES = 16 * 1024
MIN_READ_BYTES = 256  # the least that a read counts, as it costs as much: frames may come byte by byte
CHARGED_FRAMES = 8  # after which person and address are charged, in one step: a client that says little costs little
CHARGED_BYTES = SLICE_BYTES
RECHECK_SECONDS = 0.25  # between attempts, at least and on average, while a person's or address' bucket is empty
# After which it is read all the same, as far as its own buckets allow: others at its address may keep that one empty.
MAX_EMPTY_SECONDS = 3.0

# Takes frames and bytes from the shared buckets; returns the seconds until none of them is empty. 0, 0 takes nothing.
Charge = Callable[[int, int], float]


class ReadBudget:
    """Read budget of one connection. `charge`: None if no bucket is shared."""

    __slots__ = ("_bytes", "_charge", "_empty_since", "_frames", "_uncharged_bytes", "_uncharged_frames")

    def __init__(self, charge: Charge | None) -> None:
        # At least a slice each: a bucket cannot owe more than its burst.
        frames, size = connection_limit(Kind.FRAMES), connection_limit(Kind.BYTES)
        self._frames = Bucket(frames.rate, max(SLICE_FRAMES, frames.burst))
        self._bytes = Bucket(size.rate, max(2 * SLICE_BYTES, size.burst))
        self._charge = charge
        self._uncharged_frames = 0
        self._uncharged_bytes = 0
        self._empty_since: float | None = None  # since when a shared bucket was empty, by time.monotonic

    def wait(self) -> float:
        """Return the seconds until the next slice may be read, or until it is worth asking again; 0: now."""
        wait = max(self._frames.wait(), self._bytes.wait())
        if self._empty_since is not None and self._charge is not None:
            left = self._empty_since + MAX_EMPTY_SECONDS - time.monotonic()
            shared = min(left, self._charge(0, 0))
            if shared > 0:  # with jitter, as other connections wait for the same tokens
                return max(wait, min(left, max(shared, RECHECK_SECONDS) * random.uniform(0.5, 1.5)))  # noqa: S311
            self._empty_since = None
        return wait

    def spend(self, frames: int, size: int) -> None:
        """Count a slice that was read: a number of frames, and `size` in bytes."""
        size = max(size, MIN_READ_BYTES)
        self._frames.spend(frames)
        self._bytes.spend(size)
        self._uncharged_frames += frames
        self._uncharged_bytes += size
        if self._uncharged_frames >= CHARGED_FRAMES or self._uncharged_bytes >= CHARGED_BYTES:
            if self._charge is not None:
                empty = self._charge(self._uncharged_frames, self._uncharged_bytes) > 0
                self._empty_since = time.monotonic() if empty else None
            self._uncharged_frames = self._uncharged_bytes = 0
