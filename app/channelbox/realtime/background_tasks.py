"""Supervised background tasks: an exception is logged and counted, and the task is started again.

A task whose work is repeated anyway, or is left to its caller when it fails, runs with `once`; its exception is logged
and counted too.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from django.db import Error as DatabaseError
from redis.exceptions import RedisError

from channelbox.realtime.counters import counters

logger = logging.getLogger(__name__)

PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 30.0  # before a restart; doubled while the task fails again quickly
# Timeout for releasing resources at shutdown. What is not released by then ends by itself, with its lease.
STOP_SECONDS = 3.0
RECOVERED_SECONDS = 60.0  # a task that ran this long starts again with the shortest pause
# Redis, the database or a room is unavailable: an outage, not a fault of the task
OUTAGES = (RedisError, DatabaseError, OSError, LookupError)


def supervise(name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """Run a coroutine function as a task, until it returns or the task is cancelled.

    `name` is the name of the task in the logs. An exception is logged and counted (`counters.restarted`), and the
    function is called again after a pause, so it must not leave a half-finished state behind when it raises.
    """
    return asyncio.create_task(_restart_on_failure(name, run), name=name)


def once(name: str, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    """Run a coroutine as a task that is kept in `tasks` until it ends. An exception is logged and counted."""
    task = asyncio.create_task(work, name=name)
    tasks.add(task)

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            counters.restarted += 1
            logger.error("The task %r failed", name, exc_info=error)

    task.add_done_callback(ended)
    return task


def failed(log: logging.Logger, error: Exception, what: str, *args: object) -> None:
    """Log an error after which the task goes on.

    `what` and `args`: the log message and its arguments. An outage is a warning. Any other error is logged with its
    traceback and counted (`counters.restarted`).
    """
    if isinstance(error, OUTAGES) and not isinstance(error, KeyError | IndexError):
        log.warning(what + ": %s", *args, error)
    else:
        counters.restarted += 1
        log.error(what + ": %r", *args, error, exc_info=error)


async def cancel(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel tasks and wait until they have ended. None is skipped."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def within(seconds: float, work: Awaitable[object]) -> None:
    """Await `work` for at most `seconds`. Raises TimeoutError, or the exception of `work`."""
    async with asyncio.timeout(seconds):
        await work


async def _restart_on_failure(name: str, run: Callable[[], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    pause = PAUSE_SECONDS
    while True:
        began = loop.time()
        try:
            await run()
            return
        except Exception:
            counters.restarted += 1
            if loop.time() - began > RECOVERED_SECONDS:
                pause = PAUSE_SECONDS
            logger.exception("The task %r failed; restarting it in %.1f s", name, pause)
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
        pause = min(pause * 2, MAX_PAUSE_SECONDS)
