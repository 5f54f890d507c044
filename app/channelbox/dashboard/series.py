"""Figures of the whole installation for the last 15 minutes: one sample a second, in a list in Redis.

Every process runs a `Recorder`. The first process to claim a second writes its sample, so that the series continues
whichever process stops. `read_series()` returns what the dashboard sends on connecting::

    {
        "step_s": 1,
        "at": [1764000000, ...],                        # Unix seconds by Redis' clock, without a gap
        "totals": {"connections": [12, ...], ...},      # every figure of the totals in dashboard/aggregate.py
        "nodes": {"web-1": {"connections": [12, ...], ...}},
    }

All lists are as long as `at`. A figure that is not known is null: no process ran in that second, or the node was not
there.
"""

import asyncio
import logging
from typing import Any

import msgpack
from redis.exceptions import RedisError

from channelbox.dashboard.aggregate import aggregate
from channelbox.monitoring.process_reports import read_processes
from channelbox.realtime import redis_keys
from channelbox.realtime.background_tasks import cancel, supervise
from channelbox.realtime.bus import Bus

logger = logging.getLogger(__name__)

LENGTH = 900  # samples
STEP = 1  # s

TOTALS = (
    "connections",
    "rooms",
    "messages_per_s",
    "delivered_per_s",
    "store_p50_ms",
    "store_p99_ms",
    "queue",
    "nodes",
    "processes",
)
NODE = ("connections", "messages_per_s", "delivered_per_s", "lag_ms")

_TIMEOUT_SECONDS = 3.0  # to wait for Redis


class Recorder:
    """Writes the sample of each second that this process is the first to claim, from `start()` to `stop()`."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = supervise("recorder", self._run)

    async def stop(self) -> None:
        await cancel(self._task)
        self._task = None

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    rest = await self._record()
            except (RedisError, OSError) as error:
                # The reporter logs it. A second that no process recorded is null in the series.
                logger.debug("Cannot write a sample: %s", error)
                rest = 1.0
            except Exception:
                logger.exception("Cannot write this sample")
                rest = 1.0
            await asyncio.sleep(rest)

    async def _record(self) -> float:
        """Record this second if no other process has claimed it. Return the seconds until it ends."""
        client = Bus.current().client(redis_keys.series())
        second, micros = await client.time()
        if (
            await Bus.current()
            .client(redis_keys.tick(second))
            .set(redis_keys.tick(second), redis_keys.process_name(), nx=True, ex=10)
        ):
            data = aggregate(await read_processes())
            sample = {"at": second, "totals": data["totals"], "nodes": data["nodes"]}
            pipe = client.pipeline(transaction=False)
            pipe.rpush(redis_keys.series(), msgpack.packb(sample))
            pipe.ltrim(redis_keys.series(), -LENGTH, -1)
            pipe.expire(redis_keys.series(), LENGTH * STEP)
            await pipe.execute()
        return 1.0 - micros / 1e6


async def read_series() -> dict[str, Any]:
    """Return the shape above. Raises RedisError, OSError or TimeoutError when Redis does not answer within 3 s."""
    client = Bus.current().client(redis_keys.series())
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        pipe = client.pipeline(transaction=False)
        pipe.time()
        pipe.lrange(redis_keys.series(), 0, -1)
        (now, _), packed = await pipe.execute()
    samples = [msgpack.unpackb(sample) for sample in packed]
    # Older samples are from before a time in which no process ran.
    return series_of([sample for sample in samples if now - LENGTH < sample["at"] <= now])


def series_of(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Convert samples to columns. Seconds without a sample are filled with None."""
    by_second = {sample["at"]: sample for sample in samples}
    at = list(range(min(by_second), max(by_second) + 1)) if by_second else []
    nodes = sorted({name for sample in samples for name in sample["nodes"]})
    nothing: dict[str, Any] = {"totals": {}, "nodes": {}}
    rows = [by_second.get(second, nothing) for second in at]

    def of_node(name: str, figure: str) -> list[Any]:
        return [row["nodes"].get(name, {}).get(figure) for row in rows]

    return {
        "step_s": STEP,
        "at": at,
        "totals": {figure: [row["totals"].get(figure) for row in rows] for figure in TOTALS},
        "nodes": {name: {figure: of_node(name, figure) for figure in NODE} for name in nodes},
    }
