"""How much an outbox may hold, by how fast it empties."""

import pytest
from tests.clock import Clock, clock_of

from channelbox.work import drain as module
from channelbox.work.drain import FEWEST, Drain


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return clock_of(module, monkeypatch)


def works(drain: Drain, clock: Clock, rate: float, seconds: float) -> None:
    for _ in range(round(seconds * 20)):
        clock.now += 0.05
        drain.finished(round(rate / 20), more=True)


def test_it_holds_what_is_stored_in_time(clock: Clock) -> None:
    drain = Drain(10_000, 0.5)
    works(drain, clock, 4000, 2)
    assert drain.room == pytest.approx(2000, rel=0.05)
    works(drain, clock, 8000, 2)
    assert drain.room == pytest.approx(4000, rel=0.05)


def test_a_little_always_fits_and_never_more_than_the_most(clock: Clock) -> None:
    drain = Drain(10_000, 0.5)
    works(drain, clock, 20, 2)
    assert drain.room == FEWEST
    works(drain, clock, 100_000, 2)
    assert drain.room == 10_000
    assert Drain(100, 0.5).room == 100


def test_while_nothing_comes_back_everything_is_held(clock: Clock) -> None:
    drain = Drain(10_000, 0.5)
    assert drain.room == 10_000  # nothing is known yet
    works(drain, clock, 4000, 2)
    clock.now += 3
    assert drain.room == 10_000
    drain.finished(100, more=True)  # the first answer after the outage
    assert drain.room == 10_000


def test_what_was_idle_time_is_not_slowness(clock: Clock) -> None:
    drain = Drain(10_000, 0.5)
    works(drain, clock, 4000, 1)
    drain.finished(1, more=False)
    clock.now += 1.5
    drain.begin()
    works(drain, clock, 4000, 0.5)
    assert drain.room == pytest.approx(2000, rel=0.1)
