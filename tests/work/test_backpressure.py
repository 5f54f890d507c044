"""How much an outbox may hold, by how fast it empties."""

import pytest
from tests.support.clock import Clock, clock_of

from channelbox.work import backpressure as module
from channelbox.work.backpressure import MIN_MESSAGES, ThroughputEstimate


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return clock_of(module, monkeypatch)


def works(estimate: ThroughputEstimate, clock: Clock, rate: float, seconds: float) -> None:
    for _ in range(round(seconds * 20)):
        clock.now += 0.05
        estimate.record(round(rate / 20), more=True)


def test_it_holds_what_is_stored_in_time(clock: Clock) -> None:
    estimate = ThroughputEstimate(10_000, 0.5)
    works(estimate, clock, 4000, 2)
    assert estimate.capacity == pytest.approx(2000, rel=0.05)
    works(estimate, clock, 8000, 2)
    assert estimate.capacity == pytest.approx(4000, rel=0.05)


def test_a_little_always_fits_and_never_more_than_the_most(clock: Clock) -> None:
    estimate = ThroughputEstimate(10_000, 0.5)
    works(estimate, clock, 20, 2)
    assert estimate.capacity == MIN_MESSAGES
    works(estimate, clock, 100_000, 2)
    assert estimate.capacity == 10_000
    assert ThroughputEstimate(100, 0.5).capacity == 100


def test_while_nothing_comes_back_everything_is_held(clock: Clock) -> None:
    estimate = ThroughputEstimate(10_000, 0.5)
    assert estimate.capacity == 10_000  # nothing is known yet
    works(estimate, clock, 4000, 2)
    clock.now += 3
    assert estimate.capacity == 10_000
    estimate.record(100, more=True)  # the first answer after the outage
    assert estimate.capacity == 10_000


def test_what_was_idle_time_is_not_slowness(clock: Clock) -> None:
    estimate = ThroughputEstimate(10_000, 0.5)
    works(estimate, clock, 4000, 1)
    estimate.record(1, more=False)
    clock.now += 1.5
    estimate.restart()
    works(estimate, clock, 4000, 0.5)
    assert estimate.capacity == pytest.approx(2000, rel=0.1)
