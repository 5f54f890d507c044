"""Waits for a condition, with an error that shows the last state if it does not become true."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def until(question: Callable[[], Awaitable[T | None]], within: float, what: str) -> T: ...
@overload
async def until(question: Callable[[], T | None], within: float, what: str) -> T: ...
async def until(question: Callable[[], Any], within: float, what: str) -> Any:
    """Ask until the answer is true, and return it; fail with the last answer or error after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            answer = question()
            if isinstance(answer, Awaitable):
                answer = await answer
            if answer:
                return answer
            last = answer
        except (OSError, AssertionError, ValueError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}; the last answer was {last!r}")
        await asyncio.sleep(0.1)
