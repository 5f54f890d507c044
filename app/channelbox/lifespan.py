"""Startup and shutdown of a process: the ASGI lifespan of web processes and workers."""

import asyncio
import logging
from typing import Any

from channels.layers import get_channel_layer

from channelbox.chat.cleanup import Cleanup
from channelbox.chat.ingest import INGEST_CHANNEL
from channelbox.chat.runtime import ChatRuntime
from channelbox.dashboard.series import Recorder
from channelbox.monitoring.process_reports import Reporter
from channelbox.realtime.bus import Bus
from channelbox.realtime.http_protocol import check_uvicorn

logger = logging.getLogger(__name__)


class Process:
    """The parts of one process. A worker has no WebSockets, so it has no chat runtime."""

    def __init__(self, worker: bool) -> None:
        self.runtime = None if worker else ChatRuntime.current()
        self.reporter = Reporter(
            "worker" if worker else "web", rooms=self.runtime.rooms if self.runtime else tuple, queues=_queues
        )
        self.recorder = Recorder()
        self.cleanup = Cleanup() if worker else None

    async def start(self) -> None:
        check_uvicorn()
        if self.runtime is not None:
            await self.runtime.start()
        await self.reporter.start()
        await self.recorder.start()
        if self.cleanup is not None:
            await self.cleanup.start()

    async def stop(self) -> None:
        if self.cleanup is not None:
            await self.cleanup.stop()
        await self.recorder.stop()
        if self.runtime is not None:
            await self.runtime.stop()
        await self.reporter.stop()
        await Bus.current().stop()


async def _queues() -> dict[str, int]:
    layer = get_channel_layer("work")
    lengths = await asyncio.gather(*(layer.length(INGEST_CHANNEL, host) for host in range(layer.hosts)))
    return {INGEST_CHANNEL: sum(lengths)}


async def lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Acknowledge startup when this process can serve, and shutdown when it has given back all that it held.

    A scope with `channels` is that of a worker.
    """
    await receive()
    process = Process(worker="channels" in scope)
    try:
        await process.start()
    except Exception as error:
        logger.exception("Cannot start the process")
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await process.stop()
    await send({"type": "lifespan.shutdown.complete"})
