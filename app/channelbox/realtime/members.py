"""Connections that the hub writes to: those of our own protocol, or a substitute under other servers."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from django.conf import settings

from channelbox.realtime.background_tasks import once
from channelbox.realtime.counters import counters
from channelbox.realtime.errors import Close
from channelbox.realtime.frames import payloads
from channelbox.realtime.protocol import EXTENSION


class Member(Protocol):
    """Connection that takes encoded frames. `on_lost` is called when it is lost or closed."""

    on_lost: Callable[[], None] | None

    def write_frames(self, frames: bytes) -> None:
        """Write whole frames at once, without waiting or raising."""

    def restart(self) -> None:
        """Close with 1012, unless closed already. The client reconnects."""


class SendingMember:
    """Decodes frames and sends them one by one, for Channels' test client and for servers without our protocol."""

    on_lost: Callable[[], None] | None = None

    def __init__(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._task = once("sending to a member", self._run(), self._tasks)

    def write_frames(self, frames: bytes) -> None:
        if self._task.done():
            return
        self._bytes += len(frames)
        if self._bytes > settings.CHANNELBOX_SLOW_READER_BYTES:
            counters.slow_closed += 1
            self._start_closing(Close.TRY_LATER)
        else:
            self._waiting.put_nowait(frames)

    async def _run(self) -> None:
        with contextlib.suppress(OSError):  # uvicorn's ClientDisconnected is an OSError
            while True:
                frames = await self._waiting.get()
                for _, payload in payloads(frames):
                    await self._send({"type": "websocket.send", "text": bytes(payload).decode()})
                self._bytes -= len(frames)
                self._waiting.task_done()
        if self.on_lost is not None:
            self.on_lost()

    def restart(self) -> None:
        if not self._task.done():
            self._start_closing(Close.RESTART)

    def _start_closing(self, code: Close) -> None:
        self._task.cancel()
        self._task = once("closing of a member", self._close(code), self._tasks)

    async def _close(self, code: Close) -> None:
        if self.on_lost is not None:
            self.on_lost()
        with contextlib.suppress(OSError):
            await self._send({"type": "websocket.close", "code": code})

    async def drained(self) -> None:
        """Wait until everything is sent, or nothing more can be."""
        waiting = asyncio.ensure_future(self._waiting.join())
        await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    def stop(self) -> None:
        """Stop sending. Call it when the connection is over."""
        self._task.cancel()


def member_of(scope: dict[str, Any], send: Callable[[dict[str, Any]], Awaitable[None]]) -> Member:
    """Return the connection of this scope as a member."""
    return scope.get("extensions", {}).get(EXTENSION) or SendingMember(send)
