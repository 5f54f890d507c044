"""Background tasks that do not end unseen: what one raises is logged and counted, and it is started again."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from channelbox.realtime.counters import counters

logger = logging.getLogger(__name__)

PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 30.0  # before a task is started again; doubled while it fails at once
# That giving something back may take when a part stops. What hangs then ends by itself, with its lease.
STOP_SECONDS = 3.0
GOOD_SECONDS = 60.0  # that a task ran before it counts as recovered


def supervise(name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """Run a coroutine function as a task, until it returns or the task is cancelled.

    An exception is logged and counted (`counters.restarted`), and the function is called anew after a pause. So it must
    leave nothing half done behind when it raises.
    """
    return asyncio.create_task(_keep(name, run), name=name)


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
