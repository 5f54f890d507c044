"""Sweeps, in each of which one quantity grows and everything else stays the same."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.figures import percentile
from bench.generator import Crowd
from bench.growth.balance import balance
from bench.growth.nodes import Nodes
from bench.peers.channelbox import Channelbox
from bench.peers.peer import Peer
from bench.processes import cpu_seconds
from bench.runs.delivering import Delivered, deliver, paced
from bench.runs.joining import Joined, join

# Limits that would be reached, as one member sends what many would.
LIMITS = {
    "CHANNELBOX_ROOM_LIMIT": "20000",
    "CHANNELBOX_ROOM_GUESTS": "100",
    "CHANNELBOX_RATE": "2000",
    "CHANNELBOX_RATE_BURST": "6000",
}
IN_FLIGHT = 4
CALIBRATING = (1, IN_FLIGHT, 16)  # in flight in the sweep of members: costs of a message alone and in a batch
PACE = 200.0  # messages a second, over all rooms


@dataclass(frozen=True)
class Point:
    """The result of one step of a sweep."""

    sweep: str
    at: int
    in_flight: int  # messages in each room; 0: sent at a fixed rate
    connections: int
    delivery_us: float  # CPU time of all server processes except Redis, per delivery to one member
    message_ms: float  # the same per message to all members
    web_us: float  # the part of the web processes, per message
    worker_us: float  # of the workers, per message
    database_us: float  # of the database, per message
    generator_us: float  # CPU time of the load generator, per message; not part of the above
    p50_ms: float  # from sending until the last member received it
    p99_ms: float
    connects_per_s: float
    busy: float  # the generator's share of a core
    balance: float  # connections of the fullest web process, divided by the mean


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
NODES = Sweep("nodes", "Web nodes behind one balancer with TLS, 2,000 members of one room", (1, 2, 3, 4), (1, 2))
SPREAD = Sweep("spread", "Members of one room over two web nodes, a message a second", (1000, 10_000), (1000,))
SPREAD_NODES, SPREAD_PACE, SPREAD_SECONDS = 2, 1.0, 20.0
PROCESSES_MEMBERS = 2000
LOCAL_SWEEPS = {sweep.name: sweep for sweep in (MEMBERS, ROOMS, PROCESSES)}
SWEEPS = {**LOCAL_SWEEPS, **{sweep.name: sweep for sweep in (NODES, SPREAD)}}


class Parts(Peer, Protocol):
    """An installation of channelbox that reports its process ids by kind."""

    @property
    def web(self) -> list[int]: ...

    @property
    def workers(self) -> list[int]: ...

    @property
    def database(self) -> list[int]: ...


async def points(sweep: Sweep, quick: bool, folder: Path, nodes: Nodes) -> AsyncIterator[Point]:
    """Run a sweep and yield the points of its steps in order. Nodes are created if the sweep needs them."""
    steps = sweep.quick if quick else sweep.steps
    seconds = 1.0 if quick else 3.0
    if sweep in (NODES, SPREAD):
        await nodes.start()
        for count in steps:
            await nodes.serve(count if sweep is NODES else SPREAD_NODES)
            members = PROCESSES_MEMBERS if sweep is NODES else count
            for point in await _step(nodes, sweep, count, {f"{sweep.name}-{count}": members}, seconds):
                yield point
        return
    if sweep is PROCESSES:
        for count in steps:
            async with _started(folder / f"{count}", count) as channelbox:
                for point in await _step(channelbox, sweep, count, {"growth": PROCESSES_MEMBERS}, seconds):
                    yield point
        return
    async with _started(folder / sweep.name, 1) as channelbox:
        names = (f"{sweep.name}-{number}" for number in itertools.count())
        for count in steps:
            sizes = {next(names): count} if sweep is MEMBERS else {next(names): 1 for _ in range(count)}
            for point in await _step(channelbox, sweep, count, sizes, seconds):
                yield point


@asynccontextmanager
async def _started(folder: Path, count: int) -> AsyncIterator[Channelbox]:
    channelbox = Channelbox(folder, people=1000, web=count, workers=count, variables=LIMITS)
    try:
        await channelbox.start()
        yield channelbox
    finally:
        await channelbox.stop()


async def _step(channelbox: Parts, sweep: Sweep, at: int, sizes: Mapping[str, int], seconds: float) -> list[Point]:
    crowd = Crowd(channelbox.address)
    try:
        joined = await join(channelbox, crowd, dict(sizes))
        if sweep is ROOMS:
            runs = {0: partial(paced, channelbox, crowd, PACE, seconds)}
        elif sweep is SPREAD:
            runs = {0: partial(paced, channelbox, crowd, SPREAD_PACE, SPREAD_SECONDS)}
        else:
            await deliver(channelbox, crowd, 1, 0)  # the first message includes one-time costs
            counts = CALIBRATING if sweep is MEMBERS else (IN_FLIGHT,)
            runs = {count: partial(deliver, channelbox, crowd, count, seconds) for count in counts}
        return [await _point(channelbox, sweep, at, joined, count, run) for count, run in runs.items()]
    finally:
        await crowd.close()


async def _point(
    channelbox: Parts,
    sweep: Sweep,
    at: int,
    joined: Joined,
    in_flight: int,
    run: Callable[[], Awaitable[Delivered]],
) -> Point:
    kinds = (channelbox.web, channelbox.workers, channelbox.database)
    before = [cpu_seconds(pids) for pids in kinds]
    delivered = await run()
    if delivered.lost:
        raise RuntimeError(f"{sweep.name} {at}: {delivered.lost} messages did not reach all within half a minute")
    messages = len(delivered.latencies)
    web, worker, database = (
        (cpu_seconds(pids) - start) * 1e6 / messages for pids, start in zip(kinds, before, strict=True)
    )
    return Point(
        sweep=sweep.name,
        at=at,
        in_flight=in_flight,
        connections=joined.people,
        delivery_us=delivered.cpu * 1e6 / delivered.deliveries,
        message_ms=delivered.cpu * 1e3 / messages,
        web_us=web,
        worker_us=worker,
        database_us=database,
        generator_us=delivered.busy.share * delivered.busy.seconds * 1e6 / messages,
        p50_ms=percentile(delivered.latencies, 0.5) * 1000,
        p99_ms=percentile(delivered.latencies, 0.99) * 1000,
        connects_per_s=joined.connects_per_s,
        busy=delivered.busy.share,
        balance=balance(channelbox.web),
    )
