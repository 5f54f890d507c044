"""The estimate of how much an outbox may hold, from how fast its messages are stored."""

import pytest
from tests.support.clock import Clock, clock_of

from channelbox.work import backpressure
from channelbox.work.backpressure import MIN_MESSAGES, ThroughputEstimate


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return clock_of(backpressure, monkeypatch)


def record_work(estimate: ThroughputEstimate, clock: Clock, rate: float, seconds: float) -> None:
    for _ in range(round(seconds * 20)):
        clock.now += 0.05
        estimate.record(round(rate / 20), more=True)


def test_capacity_is_what_is_stored_in_the_time_limit(clock: Clock) -> None:
    estimate = ThroughputEstimate(10_000, 0.5)
    record_work(estimate, clock, 4000, 2)
    assert estimate.capacity == pytest.approx(2000, rel=0.05)
    record_work(estimate, clock, 8000, 2)
    assert estimate.capacity == pytest.approx(4000, rel=0.05)


def test_capacity_stays_between_its_minimum_and_maximum(clock: Clock) -> None:
    estimate = ThroughputEstimate(10_000, 0.5)
    record_work(estimate, clock, 20, 2)
    assert estimate.capacity == MIN_MESSAGES
    record_work(estimate, clock, 100_000, 2)
    assert estimate.capacity == 10_000
    assert ThroughputEstimate(100, 0.5).capacity == 100


def test_capacity_is_the_maximum_during_an_outage(clock: Clock) -> None:
    estimate = ThroughputEstimate(10_000, 0.5)
    assert estimate.capacity == 10_000  # nothing is known yet
    record_work(estimate, clock, 4000, 2)
    clock.now += 3
    assert estimate.capacity == 10_000
    estimate.record(100, more=True)  # the first answer after the outage
    assert estimate.capacity == 10_000


def test_idle_time_does_not_lower_the_estimate(clock: Clock) -> None:
    estimate = ThroughputEstimate(10_000, 0.5)
    record_work(estimate, clock, 4000, 1)
    estimate.record(1, more=False)
    clock.now += 1.5
    estimate.restart()
    record_work(estimate, clock, 4000, 0.5)
    assert estimate.capacity == pytest.approx(2000, rel=0.1)
