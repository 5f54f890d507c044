"""A clock that only tests advance."""

from types import ModuleType

import pytest


class Clock:
    """A replacement for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def clock_of(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace `time` in this module with a clock that stands still, and return the clock."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock
