"""The chat in one process: the live parts, and a worker's consumer on the same loop."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from channels.layers import get_channel_layer

from channelbox.chat.ingest import INGEST_CHANNEL, IngestConsumer
from channelbox.chat.live import Live
from channelbox.realtime.bus import Bus


class Workers:
    """Workers that can be stopped and started, and that count what they were given."""

    def __init__(self) -> None:
        self.batches = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        layer, consumer = get_channel_layer("work"), IngestConsumer()
        while True:
            if messages := await layer.receive_many(INGEST_CHANNEL, 200, 0.2):
                self.batches += len(messages)
                await consumer.dispatch({"type": "batch", "channel": INGEST_CHANNEL, "messages": messages})


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    live = await Live.current().start()
    yield live
    await live.stop()
    await Bus.current().stop()


@pytest.fixture
async def workers(live: Live) -> AsyncIterator[Workers]:
    workers = Workers()
    workers.start()
    yield workers
    await workers.stop()
