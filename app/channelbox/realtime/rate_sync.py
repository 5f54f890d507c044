"""Rate limits of persons and addresses, whose connections may be on several processes.

Asking Redis about each message would double the cost of a message. So each process has buckets of its own and publishes
once a second what was spent in it; the others take that out of theirs. The total over all processes is thus bounded by
the rate in the long run, and by a burst for each process and second in the short run.
"""

import asyncio
import logging

import msgpack
from redis.exceptions import RedisError

from channelbox.realtime import redis_keys
from channelbox.realtime.background_tasks import cancel, supervise
from channelbox.realtime.bus import Bus
from channelbox.realtime.token_bucket import Bucket

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
MIN_SYNC_SHARE = 0.125  # of a second's rate; less is not published: the many who say little cost nothing


class RateSync:
    """The shared buckets of this process."""

    def __init__(self, bus: Bus, process: str) -> None:
        self._bus = bus
        self._process = process
        self._buckets: dict[str, Bucket] = {}
        self._spent: dict[str, tuple[float, float]] = {}  # tokens not published yet, and how many are worth it
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        # Nobody waits for the confirmation: without it, each process counts for itself.
        self._bus.begin(redis_keys.rates(), self._on_spent)
        self._task = supervise("rate sync", self._run)

    async def stop(self) -> None:
        await cancel(self._task)

    def __len__(self) -> int:
        """Return the number of buckets."""
        return len(self._buckets)

    def __contains__(self, name: str) -> bool:
        return name in self._buckets

    def bucket(self, name: str, rate: float, burst: float, whose: str) -> Bucket:
        """Return the bucket of this name, full if it is new. Ask again for each message: idle buckets are removed.

        `rate` in tokens a second, `burst` in tokens. `whose`: as in `Bucket`.
        """
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(rate, burst, whose)
        return bucket

    def wait(self, name: str) -> float:
        """Return the seconds until this bucket has a token, without making one: a missing bucket is full."""
        bucket = self._buckets.get(name)
        return bucket.wait() if bucket is not None else 0.0

    def spent(self, name: str, rate: float, count: int) -> None:
        """Record `count` tokens that were taken in this process, to be published to the others."""
        so_far, _ = self._spent.get(name, (0.0, 0.0))
        self._spent[name] = (so_far + count, rate * MIN_SYNC_SHARE)

    def refunded(self, name: str, rate: float) -> None:
        """Record a token that was put back. If it was published already, the next one that is taken is not."""
        so_far, _ = self._spent.get(name, (0.0, 0.0))
        self._spent[name] = (so_far - 1, rate * MIN_SYNC_SHARE)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            amounts = {name: count for name, (count, threshold) in self._spent.items() if count >= threshold}
            for name in amounts:
                del self._spent[name]
            if amounts:
                try:
                    await self._bus.publish(redis_keys.rates(), msgpack.packb((self._process, amounts)))
                except (RedisError, OSError) as error:  # then each process counts for itself
                    logger.debug("Cannot publish spent tokens: %s", error)
            idle = [name for name, bucket in self._buckets.items() if bucket.full]
            for name in idle:
                del self._buckets[name]
                self._spent.pop(name, None)

    def _on_spent(self, payload: bytes) -> None:
        process, amounts, *_ = msgpack.unpackb(payload)
        if process == self._process:
            return
        for name, count in amounts.items():
            if not 0 < count < float("inf"):
                raise ValueError(f"{count!r} is not a number of messages.")
            # A name without a bucket here gets a full one when it comes: that is within the burst of a second.
            if (bucket := self._buckets.get(name)) is not None:
                bucket.spend(count)
