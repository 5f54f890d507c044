"""Runs a worker's consumer by direct calls: once it asks for its next message, the last one is handled."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Message = Mapping[str, Any]
Application = Callable[..., Awaitable[None]]


class ConsumerRunner:
    """Consumer of one channel. After an instance failed or ended, the next message goes to a new one."""

    def __init__(self, application: Application, channel: str) -> None:
        self.application = application
        self.channel = channel
        self._instance: asyncio.Future[None] | None = None
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._asked = asyncio.Event()

    def __str__(self) -> str:
        return f"a consumer of {self.channel}"

    async def handle(self, message: Message) -> None:
        """Pass a message to the consumer and return when it is handled.

        Raises what the consumer raised, and RuntimeError when it was cancelled or ended before it took the message.
        """
        instance = await self._waiting_instance()
        self._asked.clear()
        self._inbox.put_nowait(message)
        await self._asked.wait()
        if instance.done():
            self._raise_from(instance)

    async def close(self) -> None:
        """Cancel the instance, whatever it is doing."""
        if self._instance is not None:
            self._instance.cancel()
            await asyncio.gather(self._instance, return_exceptions=True)

    async def _waiting_instance(self) -> asyncio.Future[None]:
        """Return an instance that waits for a message; start one if there is none."""
        if self._instance is None or self._instance.done():
            self._inbox, self._asked = asyncio.Queue(), asyncio.Event()
            scope = {"type": "channel", "channel": self.channel}
            self._instance = asyncio.ensure_future(self.application(scope, self._receive, self._send))
            # Without this, waiting for an instance that ended would never return.
            self._instance.add_done_callback(lambda _: self._asked.set())
            await self._asked.wait()
            if self._instance.done():
                self._raise_from(self._instance)
                raise RuntimeError(f"The consumer of {self.channel} ended before it took a message.")
        return self._instance

    def _raise_from(self, instance: asyncio.Future[None]) -> None:
        if instance.cancelled():
            # Not CancelledError: the worker itself was not cancelled.
            raise RuntimeError(f"The consumer of {self.channel} was cancelled.")
        instance.result()

    async def _receive(self) -> Message:
        self._asked.set()
        return await self._inbox.get()

    async def _send(self, message: Message) -> None:
        raise RuntimeError("A worker's consumer has no connection to send to; it must publish instead.")
