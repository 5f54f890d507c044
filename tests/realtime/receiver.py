"""A handler for tests of the bus."""

import asyncio


class Receiver:
    """A handler that queues the payloads that it receives."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()

    def __call__(self, payload: bytes) -> None:
        self.queue.put_nowait(payload)

    async def next(self, seconds: float = 5) -> bytes:
        return await asyncio.wait_for(self.queue.get(), seconds)
