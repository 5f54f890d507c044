"""What one client has sent and the application has not taken."""

import asyncio
from typing import Any

Event = dict[str, Any]


class Inbox:
    """A queue for one taker. asyncio's own serves many, with four deques for it: 2.5 KB for each connection."""

    __slots__ = ("_events", "_taker")

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._taker: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._events)

    def empty(self) -> bool:
        return not self._events

    def put_nowait(self, event: Event) -> None:
        self._events.append(event)
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    async def get(self) -> Event:
        """The oldest event; waits for one. One call at a time."""
        while not self._events:
            self._taker = asyncio.get_running_loop().create_future()
            try:
                await self._taker
            finally:
                self._taker = None
        return self._events.pop(0)
