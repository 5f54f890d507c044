"""Starting and ending the application around something that is not a web server, as the ASGI lifespan protocol says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from channelbox.work.consumer_runner import Application


@contextlib.asynccontextmanager
async def lifespan(application: Application, **scope: Any) -> AsyncIterator[None]:
    """Runs the application's startup before and its shutdown after. Raises RuntimeError when the startup fails.

    An application that routes by type and has no route for `lifespan` has nothing to start. `scope` is added to the
    lifespan's scope, so that the application can tell who starts it.
    """
    if "lifespan" not in getattr(application, "application_mapping", {"lifespan": None}):
        yield
        return
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}, **scope}
    task = asyncio.ensure_future(application(scope, inbox.get, outbox.put))
    task.add_done_callback(lambda _: outbox.put_nowait({"type": "ended"}))

    async def ask(step: str) -> None:
        inbox.put_nowait({"type": f"lifespan.{step}"})
        answer = await outbox.get()
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
