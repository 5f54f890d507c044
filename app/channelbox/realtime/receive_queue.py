"""Queue of the events of one connection that the application has not taken yet."""

import asyncio
from typing import Any

Event = dict[str, Any]


class ReceiveQueue:
    """Queue with one reader. asyncio.Queue serves many readers, and its deques cost 2.5 KB per connection."""

    __slots__ = ("_events", "_reader")

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._reader: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._events)

    def empty(self) -> bool:
        return not self._events

    def put_nowait(self, event: Event) -> None:
        self._events.append(event)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> Event:
        """Return the oldest event, waiting for one if there is none. Only one call may wait at a time."""
        while not self._events:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._events.pop(0)
