"""Measures delivery: the cost to the server and the latency of messages to all members of the rooms."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.generator import Busy, Crowd, measured
from bench.peers.peer import Peer
from bench.processes import cpu_seconds

STEP_SECONDS = 0.005
TIMEOUT_SECONDS = 30.0  # without a delivery to all members, after which messages in flight count as lost


@dataclass
class Delivered:
    """The results of one run."""

    seconds: float = 0.0
    cpu: float = 0.0  # seconds of CPU time of the server
    deliveries: int = 0
    latencies: list[float] = field(default_factory=list)  # of each message, seconds from sending to the last member
    lost: int = 0  # messages that not every member received
    busy: Busy = field(default_factory=Busy)

    @property
    def messages_per_s(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def cpu_for_100k(self) -> float:
        return self.cpu * 100_000 / self.deliveries


async def deliver(peer: Peer, crowd: Crowd, in_flight: int, seconds: float, least: int = 1) -> Delivered:
    """Keep `in_flight` messages in flight in each room for at least `seconds`, and until `least` were received by all.

    Members send in turn. The run ends when the last message is received.
    """
    result = Delivered()
    heard = asyncio.Event()
    turns: dict[str, Iterator[int]] = {room: itertools.count() for room in crowd.rooms}
    with measured() as result.busy:
        before, started = cpu_seconds(peer.processes), time.perf_counter()
        end = started + seconds

        def say(room: str) -> None:
            size = len(crowd.rooms[room])

            def done(latency: float) -> None:
                result.latencies.append(latency)
                result.deliveries += size
                if time.perf_counter() < end or len(result.latencies) + len(crowd.flying) < least:
                    say(room)
                heard.set()

            crowd.say(room, next(turns[room]), done)

        for room in crowd.rooms:
            for _ in range(in_flight):
                say(room)
        await _heard_by_all(crowd, heard, result)
        result.seconds = time.perf_counter() - started
        result.cpu = cpu_seconds(peer.processes) - before
    return result


async def paced(peer: Peer, crowd: Crowd, rate: float, seconds: float) -> Delivered:
    """Send `rate` messages per second, to the rooms in turn, at a fixed pace. Ends when the last is received."""
    result = Delivered()
    heard = asyncio.Event()
    rooms = itertools.cycle(crowd.rooms)
    with measured() as result.busy:
        before, started = cpu_seconds(peer.processes), time.perf_counter()

        def done(latency: float) -> None:
            result.latencies.append(latency)
            heard.set()

        said = 0
        while (passed := time.perf_counter() - started) < seconds:
            while said < rate * passed:
                room = next(rooms)
                crowd.say(room, said, done)
                result.deliveries += len(crowd.rooms[room])
                said += 1
            await asyncio.sleep(STEP_SECONDS)
        await _heard_by_all(crowd, heard, result)
        result.seconds = time.perf_counter() - started
        result.cpu = cpu_seconds(peer.processes) - before
    return result


async def _heard_by_all(crowd: Crowd, heard: asyncio.Event, result: Delivered) -> None:
    """Wait until no message is in flight; those that take too long count as lost."""
    while crowd.flying:
        heard.clear()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await heard.wait()
        except TimeoutError:
            result.lost = len(crowd.flying)
            crowd.flying.clear()
