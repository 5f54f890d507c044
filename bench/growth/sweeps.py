"""The sweeps: one thing grows, all else stays as it is."""

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import percentile
from bench.generator import Crowd
from bench.growth.balance import balance
from bench.peers.channelbox import Channelbox
from bench.runs.delivering import Delivered, deliver, paced
from bench.runs.joining import join

# Limits that would be met, by one member who says what many would.
LIMITS = {"CHANNELBOX_ROOM_LIMIT": "20000", "CHANNELBOX_RATE": "2000", "CHANNELBOX_RATE_BURST": "6000"}
IN_FLIGHT = 4
PACE = 200.0  # messages a second, over all rooms


@dataclass(frozen=True)
class Point:
    """What one step of a sweep showed."""

    sweep: str
    at: int
    connections: int
    delivery_us: float  # CPU of all server processes but Redis, for a delivery to one member
    message_ms: float  # the same for a message to all
    p50_ms: float  # from send to the last member
    p99_ms: float
    connects_per_s: float
    busy: float  # the generator's share of a core
    balance: float  # connections of the fullest web process, in means


@dataclass(frozen=True)
class Sweep:
    name: str
    title: str
    steps: Sequence[int]
    quick: Sequence[int]


MEMBERS = Sweep("members", "Members of one room", (10, 30, 100, 300, 1000, 3000, 10_000), (10, 100, 1000))
ROOMS = Sweep(
    "rooms", "Rooms, one member each, 200 messages a second in all", (1, 10, 100, 1000, 10_000), (1, 100, 1000)
)
PROCESSES = Sweep("processes", "Web processes and as many workers, 2,000 members of one room", (1, 2, 4, 8), (1, 4))
PROCESSES_MEMBERS = 2000
SWEEPS = {sweep.name: sweep for sweep in (MEMBERS, ROOMS, PROCESSES)}


async def points(sweep: Sweep, quick: bool, folder: Path) -> AsyncIterator[Point]:
    """Goes through a sweep, its steps in their order."""
    steps = sweep.quick if quick else sweep.steps
    seconds = 1.0 if quick else 3.0
    if sweep is PROCESSES:
        for count in steps:
            async with _started(folder / f"{count}", count) as channelbox:
                yield await _point(channelbox, sweep, count, {"growth": PROCESSES_MEMBERS}, seconds)
        return
    async with _started(folder / sweep.name, 1) as channelbox:
        names = (f"{sweep.name}-{number}" for number in itertools.count())
        for count in steps:
            sizes = {next(names): count} if sweep is MEMBERS else {next(names): 1 for _ in range(count)}
            yield await _point(channelbox, sweep, count, sizes, seconds)


@asynccontextmanager
async def _started(folder: Path, count: int) -> AsyncIterator[Channelbox]:
    channelbox = Channelbox(folder, people=1000, web=count, workers=count, variables=LIMITS)
    try:
        await channelbox.start()
        yield channelbox
    finally:
        await channelbox.stop()


async def _point(channelbox: Channelbox, sweep: Sweep, at: int, sizes: Mapping[str, int], seconds: float) -> Point:
    crowd = Crowd(channelbox.address)
    try:
        joined = await join(channelbox, crowd, dict(sizes))
        told = await (
            paced(channelbox, crowd, PACE, seconds) if sweep is ROOMS else _delivered(channelbox, crowd, seconds)
        )
        even = balance(channelbox.web)
    finally:
        await crowd.close()
    if told.lost:
        raise RuntimeError(f"{sweep.name} {at}: {told.lost} messages did not reach everybody within a minute")
    return Point(
        sweep.name,
        at,
        sum(sizes.values()),
        told.cpu * 1e6 / told.deliveries,
        told.cpu * 1e3 / len(told.latencies),
        percentile(told.latencies, 0.5) * 1000,
        percentile(told.latencies, 0.99) * 1000,
        joined.connects_per_s,
        told.busy.share,
        even,
    )


async def _delivered(channelbox: Channelbox, crowd: Crowd, seconds: float) -> Delivered:
    await deliver(channelbox, crowd, 1, 0)  # the first costs what is made once
    return await deliver(channelbox, crowd, IN_FLIGHT, seconds)
