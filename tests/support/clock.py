"""Time that passes when a test says so."""

from types import ModuleType

import pytest


class Clock:
    """In the place of a module's `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def clock_of(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Has this module live by a clock that stands still."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock
