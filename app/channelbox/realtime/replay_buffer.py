"""The newest frames of a room, kept for clients that reconnect: most catch-up needs no database."""

import collections

from channelbox.realtime.frames import payloads, skip, split

MAX_BYTES = 256 * 1024
MAX_RUNS = 500
RUN_BYTES = 16 * 1024  # longer runs are kept in parts, which are evicted one by one


class ReplayBuffer:
    """Contiguous runs of frames, newest last. The oldest are evicted beyond a number of bytes or runs."""

    def __init__(self) -> None:
        self._runs: collections.deque[tuple[int, int, bytes]] = collections.deque()
        self._bytes = 0

    def clear(self) -> None:
        """Remove all frames. The buffer starts anew with the next run."""
        self._runs.clear()
        self._bytes = 0

    def add(self, first: int, last: int, frames: bytes) -> None:
        """Add the frames of events `first` to `last`. A run that does not follow the last one starts it anew."""
        if self._runs and self._runs[-1][1] + 1 != first:
            self.clear()
        self._bytes += len(frames)
        if len(frames) > RUN_BYTES and first < last:
            for part, count in split(frames, RUN_BYTES):
                self._runs.append((first, first + count - 1, part))
                first += count
        else:
            self._runs.append((first, last, frames))
        while len(self._runs) > 1 and (self._bytes > MAX_BYTES or len(self._runs) > MAX_RUNS):
            self._bytes -= len(self._runs.popleft()[2])

    def replace(self, seq: int, frame: bytes) -> None:
        """Replace the frame of an event that has changed, if it is still in the buffer."""
        for index, (first, last, frames) in enumerate(self._runs):
            if first <= seq <= last:
                before = len(frames) - len(skip(frames, seq - first))
                changed = frames[:before] + frame + skip(frames, seq + 1 - first)
                self._runs[index] = (first, last, changed)
                self._bytes += len(changed) - len(frames)
                return

    def since(self, seq: int) -> bytes | None:
        """Return the frames after `seq`, or None if the buffer does not reach back that far."""
        if not self._runs or self._runs[0][0] > seq + 1:
            return None
        wanted: list[bytes] = []
        for first, last, frames in reversed(self._runs):
            if last <= seq:
                break
            wanted.append(skip(frames, seq + 1 - first))
        return b"".join(reversed(wanted))

    def newest(self, max_bytes: int) -> int | None:
        """Return the lowest number with at most `max_bytes` of frames after it, or None if the buffer is empty."""
        start = None
        for first, _, frames in reversed(self._runs):
            ends = [0, *(end for end, _ in payloads(frames))] if len(frames) > max_bytes else [0]
            left_out = next(number for number, end in enumerate(ends) if len(frames) - end <= max_bytes)
            start = first - 1 + left_out
            if left_out:
                break
            max_bytes -= len(frames)
        return start
