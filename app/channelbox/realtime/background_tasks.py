"""Background tasks that do not end unseen: what one raises is logged and counted, and it is started again.

A task whose work comes again by itself, or goes back to whoever wants it, runs `once`; what it raises is logged and
counted too.
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

PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 30.0  # before a task is started again; doubled while it fails at once
# That giving something back may take when a part stops. What hangs then ends by itself, with its lease.
STOP_SECONDS = 3.0
GOOD_SECONDS = 60.0  # that a task ran before it counts as recovered
# What says that Redis, the database or a room is away: no fault of a task
AWAY = (RedisError, DatabaseError, OSError, LookupError)


def supervise(name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """Run a coroutine function as a task, until it returns or the task is cancelled.

    An exception is logged and counted (`counters.restarted`), and the function is called anew after a pause. So it must
    leave nothing half done behind when it raises.
    """
    return asyncio.create_task(_keep(name, run), name=name)


def once(name: str, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    """Run a coroutine as a task, which is in `tasks` until it ends. What it raises is logged and counted."""
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
    """Log what could not be done, for a task that goes on. What nobody expected is counted too, with its traceback."""
    if isinstance(error, AWAY) and not isinstance(error, KeyError | IndexError):
        log.warning(what + ": %s", *args, error)
    else:
        counters.restarted += 1
        log.error(what + ": %r", *args, error, exc_info=error)


async def cancel(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel tasks and return when they have ended."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def within(seconds: float, work: Awaitable[object]) -> None:
    """Await something for at most so long. Raises TimeoutError, and what it raises."""
    async with asyncio.timeout(seconds):
        await work


async def _keep(name: str, run: Callable[[], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    pause = PAUSE_SECONDS
    while True:
        began = loop.time()
        try:
            await run()
            return
        except Exception:
            counters.restarted += 1
            if loop.time() - began > GOOD_SECONDS:
                pause = PAUSE_SECONDS
            logger.exception("The task %r failed; it is started again in %.1f s", name, pause)
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
        pause = min(pause * 2, MAX_PAUSE_SECONDS)
