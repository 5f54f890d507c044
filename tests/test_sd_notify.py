"""Startup: a start on a slow machine gets the time that it needs, and a start that hangs does not."""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.integration.local import print_line

from channelbox.cli import supervisor as supervisor
from channelbox.cli.errors import CliError
from channelbox.cli.local_installation import COMMAND
from channelbox.cli.supervisor import SupervisedProcess
from channelbox.sd_notify import MAX_START_CPU_SECONDS, StartProgress

LIMIT_SECONDS = 4.0
"""The time limit of a start without progress, instead of TimeoutStartSec=."""

SHARE = 0.08  # of a core that the slow machine gives


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder with a path that is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="channelbox-") as folder:
        yield Path(folder)


def web(runtime: Path) -> SupervisedProcess:
    return SupervisedProcess(
        "web@1", [*COMMAND, "web", "--port", "0"], {**os.environ, "PYTHONUNBUFFERED": "1"}, print_line, runtime
    )


@contextlib.asynccontextmanager
async def throttled(child: SupervisedProcess, share: float, *, extended: bool = False) -> AsyncIterator[None]:
    """Let the process of a child run for this share of the time, in turns of a tenth of a second.

    `extended`: only after it has asked for more time. While other tests run, the process would not even get that far
    within a limit that is short enough for a test.
    """

    async def throttle() -> None:
        while extended and child._ready_by - time.monotonic() <= LIMIT_SECONDS:
            await asyncio.sleep(0.005)
        while True:
            child.signal(signal.SIGSTOP)
            await asyncio.sleep(0.1 * (1 - share))
            child.signal(signal.SIGCONT)
            await asyncio.sleep(0.1 * share)

    task = asyncio.create_task(throttle())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        child.signal(signal.SIGCONT)


async def test_a_slow_start_with_progress_gets_more_time(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "READY_SECONDS", LIMIT_SECONDS)
    child = web(runtime)
    started = time.monotonic()
    try:
        async with throttled(child, SHARE, extended=True):
            await child.start()
        assert time.monotonic() - started > LIMIT_SECONDS, "the machine was not slow"
    finally:
        await child.stop()


async def test_a_start_without_progress_is_given_up(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "READY_SECONDS", 1.0)
    child = web(runtime)
    try:
        async with throttled(child, share=0.0):
            with pytest.raises(CliError, match="did not become ready"):
                await child.start()
    finally:
        await child.stop()


def test_only_cpu_time_counts_as_progress() -> None:
    used = 0.0
    progress = StartProgress(lambda: used)
    used = 0.2
    assert progress.made()
    assert not progress.made(), "nothing was done since"
    used = 0.23
    assert not progress.made(), "waiting takes a little, too"
    used = 0.26
    assert progress.made(), "little by little is progress"


def test_a_start_that_uses_too_much_cpu_time_is_given_up() -> None:
    progress = StartProgress(lambda: MAX_START_CPU_SECONDS + 1)
    assert not progress.made()
