"""Background tasks are restarted after unexpected errors."""

import asyncio
import logging

import pytest
from tests.support.waiting import until

from channelbox.monitoring.process_reports import _totals
from channelbox.realtime import background_tasks
from channelbox.realtime.background_tasks import cancel, once, supervise
from channelbox.realtime.counters import counters


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_tasks, "PAUSE_SECONDS", 0.01)


async def test_a_failed_task_is_logged_counted_and_restarted(caplog: pytest.LogCaptureFixture) -> None:
    before, runs, recovered = counters.restarted, 0, asyncio.Event()

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ZeroDivisionError
        recovered.set()
        await asyncio.Event().wait()

    task = supervise("counts", run)
    await asyncio.wait_for(recovered.wait(), 10)
    assert counters.restarted == before + 2
    assert _totals()["restarted"] == counters.restarted  # the number in reports
    assert [record.levelno for record in caplog.records if "counts" in record.getMessage()] == [logging.ERROR] * 2
    await cancel(task, None)
    assert task.cancelled()


async def test_the_restart_pause_grows_while_a_task_keeps_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def record_pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 20:
            raise asyncio.CancelledError
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", record_pause)

    async def run() -> None:
        raise ZeroDivisionError

    await asyncio.gather(supervise("never", run), return_exceptions=True)
    assert pauses[0] < 0.02
    assert 20 < pauses[-1] <= 1.2 * background_tasks.MAX_PAUSE_SECONDS


async def test_a_task_that_returns_is_not_restarted() -> None:
    async def run() -> None:
        return

    await asyncio.wait_for(supervise("once", run), 10)


async def test_a_failed_one_shot_task_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    before = counters.restarted
    tasks: set[asyncio.Task[None]] = set()

    async def run() -> None:
        raise ZeroDivisionError

    task = once("tells", run(), tasks)
    assert tasks == {task}
    await asyncio.wait([task], timeout=10)
    await until(lambda: not tasks)
    assert counters.restarted == before + 1
    assert [record.levelno for record in caplog.records if "tells" in record.getMessage()] == [logging.ERROR]
