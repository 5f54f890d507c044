"""Token buckets, and their synchronisation between processes over a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.clock import Clock, clock_of
from tests.support.waiting import until

from channelbox.realtime import rate_sync as rate_sync_module
from channelbox.realtime import token_bucket
from channelbox.realtime.bus import Bus
from channelbox.realtime.rate_sync import RateSync
from channelbox.realtime.token_bucket import Bucket, take


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return clock_of(token_bucket, monkeypatch)


def test_a_bucket_allows_a_burst_and_then_the_rate(clock: Clock) -> None:
    bucket = Bucket(rate=2, burst=3)
    assert [take([bucket])[0] for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.5
    assert [take([bucket])[0] for _ in range(2)] == [0, 0.5]
    clock.now += 1000
    assert [take([bucket])[0] for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_refusal_takes_no_tokens_from_other_buckets(clock: Clock) -> None:
    own, person = Bucket(1, 10, "own"), Bucket(1, 1, "person")
    assert take([own, person]) == (0, "")
    for _ in range(20):
        assert take([own, person]) == (1, "person")
    assert [take([own])[0] for _ in range(10)] == [0] * 9 + [1]


def test_spending_creates_a_debt_of_at_most_one_burst(clock: Clock) -> None:
    bucket = Bucket(rate=10, burst=20)
    bucket.spend(1000)
    assert bucket.wait() == pytest.approx(2.1)
    assert not bucket.full
    clock.now += 4
    assert bucket.full


@given(st.lists(st.floats(0, 2), min_size=1, max_size=200))
def test_no_more_is_taken_than_the_burst_and_the_rate_allow(pauses: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(token_bucket, "time", clock)
        bucket, start, taken = Bucket(3, 5), clock.now, 0
        for pause in pauses:
            clock.now += pause
            taken += not take([bucket])[0]
            assert taken <= 5 + 3 * (clock.now - start) + 1e-6


Start = Callable[[str], Awaitable[RateSync]]


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Return a function that starts the RateSync of a process of this name, with a bus of its own."""
    monkeypatch.setattr(rate_sync_module, "INTERVAL_SECONDS", 0.05)
    started: list[tuple[RateSync, Bus]] = []

    async def start(process: str) -> RateSync:
        bus = Bus()
        rate_sync = RateSync(bus, process)
        await rate_sync.start()
        started.append((rate_sync, bus))
        return rate_sync

    yield start
    for rate_sync, bus in started:
        await rate_sync.stop()
        await bus.stop()


def spend(rate_sync: RateSync, name: str, times: int) -> None:
    for _ in range(times):
        rate_sync.bucket(name, 0.1, 50, "").spend()
        rate_sync.spent(name, 0.1, 1)


async def test_tokens_spent_in_one_process_count_once_in_the_others(start: Start) -> None:
    here, there = await start("here"), await start("there")
    spend(here, "charlie", 45)
    for name in ("alice", "bob", "charlie"):
        spend(there, name, 10)
    # These were published together. Here, nobody has a bucket for alice yet, so her 10 tokens do not count.
    await until(lambda: here.bucket("charlie", 0.1, 50, "").wait() > 0)
    spend(here, "alice", 40)
    await until(lambda: there.bucket("alice", 0.1, 50, "").wait() > 0)
    assert there.bucket("bob", 0.1, 50, "").wait() == 0
    # Its own publish has come back to it by now, and is not counted twice.
    here.bucket("alice", 0.1, 50, "").spend(9)
    assert here.bucket("alice", 0.1, 50, "").wait() == 0


async def test_idle_buckets_are_removed(start: Start, clock: Clock) -> None:
    here = await start("here")
    for number in range(100):
        spend(here, f"guest {number}", 1)
    clock.now += 60
    await until(lambda: not here._buckets and not here._spent)


async def test_processes_keep_counting_locally_without_redis(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    here = await start("here")
    asked = asyncio.Event()

    async def away(*_: object) -> None:
        asked.set()
        raise OSError("away")

    monkeypatch.setattr(here._bus, "publish", away)
    spend(here, "alice", 50)
    await asyncio.wait_for(asked.wait(), 5)
    assert here.bucket("alice", 0.1, 50, "").wait() > 0
    assert here._task is not None
    assert not here._task.done()


async def test_rate_sync_starts_while_redis_is_unavailable(tmp_path: Path) -> None:
    bus = Bus([f"unix://{tmp_path}/nothing.sock"])
    here = RateSync(bus, "here")
    await asyncio.wait_for(here.start(), 5)
    await here.stop()
    await bus.stop()
