"""Polling, for state that no event announces, such as that of another process."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Wait until the condition holds. Raises TimeoutError if it does not within `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await asyncio.sleep(0.02)


async def most_in_a_turn(count: Callable[[], int], wanted: int) -> int:
    """Return the largest growth of the count from one turn of the event loop to the next, until it reaches `wanted`."""
    most = before = 0
    async with asyncio.timeout(10):
        while before < wanted:
            await asyncio.sleep(0)
            most, before = max(most, count() - before), count()
    return most
