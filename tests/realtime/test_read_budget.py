"""Pauses in reading a connection while the buckets that it shares with others are empty."""

import pytest
from pytest_django import Settings
from tests.support.clock import clock_of

from channelbox.realtime import read_budget
from channelbox.realtime.read_budget import CHARGED_FRAMES, MAX_EMPTY_SECONDS, RECHECK_SECONDS, ReadBudget


def test_an_empty_shared_bucket_pauses_reading_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = clock_of(read_budget, monkeypatch)
    budget = ReadBudget(lambda frames, size: 60.0)
    for _ in range(3):
        budget.spend(CHARGED_FRAMES, 100)
        clock.now += MAX_EMPTY_SECONDS / 2
        assert RECHECK_SECONDS / 2 <= budget.wait() <= MAX_EMPTY_SECONDS / 2
        clock.now += MAX_EMPTY_SECONDS / 2
        assert budget.wait() == 0


def test_reading_resumes_as_soon_as_there_are_tokens(settings: Settings) -> None:
    waits = [1.0, 1.0, 0.0]
    budget = ReadBudget(lambda frames, size: waits.pop(0))
    budget.spend(CHARGED_FRAMES, 100)
    assert budget.wait() > 0
    assert budget.wait() == 0
    assert waits == []
    assert budget.wait() == 0, "the buckets are not checked while nothing was charged"
