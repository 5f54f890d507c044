"""Measurements of this process: its memory and the lag of its event loop."""

import asyncio
import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_INTERVAL_SECONDS = 0.1  # between two measurements of the lag


def memory_mb() -> float:
    """Return the resident memory in MiB."""
    return round(int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1024**2, 1)


class LoopLag:
    """Schedules a call on the running event loop every 0.1 s and measures how late it comes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._worst = 0.0
        self._schedule()

    def _schedule(self) -> None:
        self._due = self._loop.time() + _INTERVAL_SECONDS
        self._handle = self._loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        self._worst = max(self._worst, self._loop.time() - self._due)
        self._schedule()

    def take_ms(self) -> float:
        """Return the longest delay, in ms, since this was last called."""
        # A scheduled call that is overdue counts too: after a long stall this may run before it.
        worst = max(self._worst, self._loop.time() - self._due)
        self._worst = 0.0
        return round(worst * 1000, 2)

    def stop(self) -> None:
        self._handle.cancel()
