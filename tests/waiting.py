"""Waiting for what gives no event: the state of another process."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Returns when the condition holds. Raises TimeoutError when it does not within `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await asyncio.sleep(0.02)
