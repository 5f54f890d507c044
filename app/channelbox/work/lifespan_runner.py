"""Runs an application's startup and shutdown (ASGI lifespan) around something that is not a web server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from channelbox.work.consumer_runner import Application


@contextlib.asynccontextmanager
async def lifespan(application: Application, **scope: Any) -> AsyncIterator[None]:
    """Run the application's startup on entry and its shutdown on exit. Raises RuntimeError when one of them fails.

    `scope` is added to the lifespan's scope, so that the application can tell what starts it. An application that
    routes by type and has no route for `lifespan` has nothing to start.
    """
    if "lifespan" not in getattr(application, "application_mapping", {"lifespan": None}):
        yield
        return
    requests: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}, **scope}
    task = asyncio.ensure_future(application(scope, requests.get, answers.put))
    task.add_done_callback(lambda _: answers.put_nowait({"type": "ended"}))

    async def ask(step: str) -> None:
        requests.put_nowait({"type": f"lifespan.{step}"})
        answer = await answers.get()
        if answer["type"] != f"lifespan.{step}.complete":
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise RuntimeError(f"The application's {step} failed.") from error
            raise RuntimeError(answer.get("message") or f"The application's {step} failed.")

    try:
        await ask("startup")
        try:
            yield
        finally:
            await ask("shutdown")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
