"""What a process can tell of itself: its memory, and how late its event loop is."""

import asyncio
import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_STEP = 0.1  # s between two looks at the clock


def memory_mb() -> float:
    """Resident memory in MiB."""
    return round(int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1024**2, 1)


class LoopLag:
    """Asks the running event loop for a call every 0.1 s and notes how late it comes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._worst = 0.0
        self._ask()

    def _ask(self) -> None:
        self._due = self._loop.time() + _STEP
        self._handle = self._loop.call_at(self._due, self._called)

    def _called(self) -> None:
        self._worst = max(self._worst, self._loop.time() - self._due)
        self._ask()

    def take_ms(self) -> float:
        """The longest lateness since the last time this was asked, in ms."""
        # A call that is overdue right now counts as well: after a long stop this may run before it.
        worst = max(self._worst, self._loop.time() - self._due)
        self._worst = 0.0
        return round(worst * 1000, 2)

    def stop(self) -> None:
        self._handle.cancel()
