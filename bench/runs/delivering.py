"""Messages to everybody in the rooms, so many under way at once: what they cost the server and how long they take."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.generator import Busy, Crowd, measured
from bench.peers.peer import Peer
from bench.processes import cpu_seconds

STEP = 0.005  # s
PATIENCE = 30.0  # s without a message heard by all before those under way count as lost


@dataclass
class Delivered:
    """What became of a run's messages."""

    seconds: float = 0.0
    cpu: float = 0.0  # seconds, of the server
    deliveries: int = 0
    latencies: list[float] = field(default_factory=list)  # seconds from send to the last member, one a message
    lost: int = 0  # messages that not every member heard
    busy: Busy = field(default_factory=Busy)

    @property
    def messages_per_s(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def cpu_for_100k(self) -> float:
        return self.cpu * 100_000 / self.deliveries


async def deliver(peer: Peer, crowd: Crowd, in_flight: int, seconds: float, least: int = 1) -> Delivered:
    """Keeps `in_flight` messages under way in each room until the time is over and `least` messages were heard by all.

    Each is said by the next member in turn. The run ends when the last is heard.
    """
    told = Delivered()
    heard = asyncio.Event()
    turns: dict[str, Iterator[int]] = {room: itertools.count() for room in crowd.rooms}
    with measured() as told.busy:
        before, started = cpu_seconds(peer.processes), time.perf_counter()
        end = started + seconds

        def say(room: str) -> None:
            size = len(crowd.rooms[room])

            def done(latency: float) -> None:
                told.latencies.append(latency)
                told.deliveries += size
                if time.perf_counter() < end or len(told.latencies) + len(crowd.flying) < least:
                    say(room)
                heard.set()

            crowd.say(room, next(turns[room]), done)

        for room in crowd.rooms:
            for _ in range(in_flight):
                say(room)
        await _heard_by_all(crowd, heard, told)
        told.seconds = time.perf_counter() - started
        told.cpu = cpu_seconds(peer.processes) - before
    return told


async def paced(peer: Peer, crowd: Crowd, rate: float, seconds: float) -> Delivered:
    """Says `rate` messages a second, the rooms in turn, whatever comes back. Ends when the last is heard."""
    told = Delivered()
    heard = asyncio.Event()
    rooms = itertools.cycle(crowd.rooms)
    with measured() as told.busy:
        before, started = cpu_seconds(peer.processes), time.perf_counter()

        def done(latency: float) -> None:
            told.latencies.append(latency)
            heard.set()

        said = 0
        while (passed := time.perf_counter() - started) < seconds:
            while said < rate * passed:
                room = next(rooms)
                crowd.say(room, said, done)
                told.deliveries += len(crowd.rooms[room])
                said += 1
            await asyncio.sleep(STEP)
        await _heard_by_all(crowd, heard, told)
        told.seconds = time.perf_counter() - started
        told.cpu = cpu_seconds(peer.processes) - before
    return told


async def _heard_by_all(crowd: Crowd, heard: asyncio.Event, told: Delivered) -> None:
    """Returns when nothing is under way any more; what takes too long is lost."""
    while crowd.flying:
        heard.clear()
        try:
            async with asyncio.timeout(PATIENCE):
                await heard.wait()
        except TimeoutError:
            told.lost = len(crowd.flying)
            crowd.flying.clear()
