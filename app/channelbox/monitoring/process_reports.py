"""Reports of all processes, which each process writes once a second to one hash in Redis.

A report is stamped with Redis' clock when it is written, and its age is taken from the same clock when it is read, so
that nodes whose clocks differ agree on which processes are alive.
"""

import asyncio
import collections
import dataclasses
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Self

import msgpack
from django.conf import settings
from redis.exceptions import RedisError

from channelbox.monitoring import histogram, process_stats
from channelbox.realtime import redis_keys
from channelbox.realtime.background_tasks import cancel, supervise
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.version import package_version

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0  # between two reports of a process
STALE_SECONDS = 3.0  # without a report: three were missed; the process's state is unknown
DEAD_SECONDS = 15.0  # without a report: the process no longer counts as alive
_FORGET_SECONDS = 60.0  # without a report: deleted by the next reader
_TIMEOUT_SECONDS = 3.0  # to wait for Redis before trying again
_WINDOW_SECONDS = 10  # reports over which durations are counted

# A script, because the stamp must be from Redis' clock. The hash expires after the last process has gone.
_WRITE = """
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], now[1] .. '.' .. string.format('%06d', now[2]) .. ' ' .. ARGV[2])
redis.call('EXPIRE', KEYS[1], 600)
return now
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One process in the last second. Fields that a newer version adds are ignored; missing ones have defaults."""

    process: str
    node: str
    unit: str
    kind: str  # "web" or "worker"
    version: str
    started: float  # Redis' clock, s
    draining: bool = False  # shutting down: takes nothing new
    lag_ms: float = 0.0  # the longest that the event loop was late
    memory_mb: float = 0.0  # resident
    connections: int = 0  # open now
    rooms: int = 0  # with members here now
    totals: Mapping[str, int] = dataclasses.field(default_factory=dict)  # counters since the start
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)  # the same, per second
    stored_in: histogram.Buckets = dataclasses.field(default_factory=dict)  # durations of storing, in the last 10 s
    room_marks: bytes = b""  # 8 bytes for each room with members here, to count rooms once in the installation
    queues: Mapping[str, int] = dataclasses.field(default_factory=dict)  # lengths of the worker channels
    age_s: float = 0.0  # at the time of reading

    def pack(self) -> bytes:
        data: bytes = msgpack.packb({field.name: getattr(self, field.name) for field in dataclasses.fields(self)})
        return data

    @classmethod
    def unpack(cls, data: bytes, age_s: float) -> Self:
        """Return a packed report that is `age_s` old. Raises ValueError or TypeError for data that is not a report."""
        content = msgpack.unpackb(data, strict_map_key=False)
        known = {field.name: content[field.name] for field in dataclasses.fields(cls) if field.name in content}
        return cls(**{**known, "age_s": age_s})


@dataclasses.dataclass(frozen=True, slots=True)
class Processes:
    """The living processes of the installation at one moment."""

    at: float  # Redis' clock, s
    reports: list[Report]


async def read_processes() -> Processes:
    """Return the processes that reported in the last 15 s, in no order; of a restarted unit the new one.

    Raises RedisError, OSError or TimeoutError when Redis does not answer within 3 s.
    """
    name = redis_keys.reports()
    client = Bus.current().client(name)
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        pipe = client.pipeline(transaction=False)
        pipe.time()
        pipe.hgetall(name)
        (seconds, micros), found = await pipe.execute()
        now = seconds + micros / 1e6
        reports, forgotten = [], []
        for process, entry in found.items():
            stamp, _, data = entry.partition(b" ")
            try:
                age = max(0.0, now - float(stamp))
                if age > _FORGET_SECONDS:
                    forgotten.append(process)
                elif age <= DEAD_SECONDS:
                    reports.append(Report.unpack(data, round(age, 2)))
            except (ValueError, TypeError) as error:
                logger.debug("Invalid report from %s: %s", process.decode(errors="replace"), error)
        if forgotten:
            await client.hdel(name, *forgotten)
    return Processes(now, _without_replaced(reports))


def _without_replaced(reports: list[Report]) -> list[Report]:
    """Leave out the last reports of processes that were killed and whose unit has been started again since."""
    newest: dict[tuple[str, str], float] = {}
    for report in reports:
        unit = report.node, report.unit
        newest[unit] = max(newest.get(unit, 0.0), report.started)
    return [r for r in reports if r.age_s <= STALE_SECONDS or r.started == newest[r.node, r.unit]]


def mark_of(room: str) -> bytes:
    """Return 8 bytes that stand for a room. Among a million rooms, two share them with a chance of 1 in 37 million."""
    return hashlib.blake2b(room.encode(), digest_size=8).digest()


class Reporter:
    """Writes this process's report every second, from `start()` to `stop()`.

    `kind`: "web" or "worker". `rooms` returns the names of the rooms with members in this process, `queues` the lengths
    of worker channels. An outage of Redis is logged once, and writing is retried every second.
    """

    def __init__(
        self,
        kind: str,
        *,
        rooms: Callable[[], Collection[str]] = tuple,
        queues: Callable[[], Awaitable[Mapping[str, int]]] | None = None,
    ) -> None:
        self._kind = kind
        self._rooms = rooms
        self._queues = queues
        self._marks: dict[str, bytes] = {}
        self._windows: collections.deque[collections.Counter[int]] = collections.deque(maxlen=_WINDOW_SECONDS)
        self._created_at = time.monotonic()
        self._started: float | None = None
        self._previous = (self._created_at, _totals())
        self._last_succeeded = True
        self._task: asyncio.Task[None] | None = None
        self._lag: process_stats.LoopLag | None = None

    async def start(self) -> None:
        """Begin to report. Returns at once, before the first report is written."""
        self._lag = process_stats.LoopLag()
        self._task = supervise("reporter", self._run)

    async def stop(self) -> None:
        """Stop reporting and remove this process's report, if Redis answers."""
        if self._task is None or self._lag is None:
            return
        self._lag.stop()
        await cancel(self._task)
        self._task = None
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await Bus.current().client(redis_keys.reports()).hdel(redis_keys.reports(), redis_keys.process_name())
        except (RedisError, OSError) as error:
            logger.info("Cannot remove the report of this process; it will be shown as stale: %s", error)

    async def _run(self) -> None:
        while True:
            due = time.monotonic() + INTERVAL_SECONDS
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    await self._write()
            except (RedisError, OSError) as error:
                if self._last_succeeded:
                    logger.warning(
                        "Cannot write reports while Redis does not respond: %s", str(error) or type(error).__name__
                    )
                self._last_succeeded = False
            except Exception:
                logger.exception("Cannot write this report")
            else:
                self._last_succeeded = True
            await asyncio.sleep(due - time.monotonic())

    async def _write(self) -> None:
        name = redis_keys.reports()
        client = Bus.current().client(name)
        if self._started is None:
            seconds, micros = await client.time()
            self._started = seconds + micros / 1e6 - (time.monotonic() - self._created_at)
        report = self._report(self._started, await self._lengths())
        await client.eval(_WRITE, 1, name, report.process, report.pack())

    async def _lengths(self) -> Mapping[str, int]:
        try:
            return await self._queues() if self._queues else {}
        except (RedisError, OSError) as error:
            # The queues may be on other Redis hosts than the reports.
            logger.debug("Cannot read the queue lengths: %s", error)
            return {}

    def _report(self, started: float, queues: Mapping[str, int]) -> Report:
        now, totals = time.monotonic(), _totals()
        then, before = self._previous
        self._previous = now, totals
        names = self._rooms()
        self._marks = {name: self._marks.get(name) or mark_of(name) for name in names}
        return Report(
            process=redis_keys.process_name(),
            node=settings.CHANNELBOX_NODE,
            unit=settings.CHANNELBOX_INSTANCE,
            kind=self._kind,
            version=package_version(),
            started=started,
            draining=counters.draining,
            lag_ms=self._lag.take_ms() if self._lag else 0.0,
            memory_mb=process_stats.memory_mb(),
            connections=counters.connections,
            rooms=len(names),
            totals=totals,
            rates={name: round(max(0, totals[name] - before[name]) / (now - then), 2) for name in totals},
            stored_in=self._durations(),
            room_marks=b"".join(self._marks.values()),
            queues=queues,
        )

    def _durations(self) -> dict[int, int]:
        taken = counters.durations.pop("store", ())
        self._windows.append(histogram.count(taken))
        return dict(sum(self._windows, collections.Counter()))


def _totals() -> dict[str, int]:
    """Return the counters that only grow."""
    gauges = {"connections", "rooms", "draining"}
    values: dict[str, Any] = {f.name: getattr(counters, f.name) for f in dataclasses.fields(counters)}
    return {name: value for name, value in values.items() if isinstance(value, int) and name not in gauges}
