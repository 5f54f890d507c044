"""Those who only want to talk: a room with a few messages a second, and how long each takes to reach everybody."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.figures import percentile
from bench.generator import Address, Crowd

SIZE = 100
EVERY = 0.1  # s


def room_of(scenario: str) -> str:
    """The room of the others while this scenario runs."""
    return f"bystanders-{scenario}"


@dataclass(frozen=True)
class Heard:
    """The messages that were said in a span of time."""

    p50_ms: float
    p99_ms: float
    worst_ms: float
    said: int
    unheard: int  # by somebody, so far

    def __str__(self) -> str:
        words = f"{self.p50_ms:.0f} / {self.p99_ms:.0f} / {self.worst_ms:.0f} ms"
        return words + (f", {self.unheard} of {self.said} unheard" if self.unheard else "")


class Bystanders:
    def __init__(self, crowd: Crowd, room: str) -> None:
        self._crowd = crowd
        self._room = room
        self._took: dict[float, float | None] = {}  # when it was said: seconds until the last had heard it

    async def talk(self) -> None:
        for turn in itertools.count():
            said = time.perf_counter()
            self._took[said] = None

            def heard(latency: float, said: float = said) -> None:
                self._took[said] = latency

            self._crowd.say(self._room, turn, heard)
            await asyncio.sleep(EVERY)

    def between(self, start: float, end: float) -> Heard:
        """What was said then, by `time.perf_counter`."""
        took = [latency for said, latency in self._took.items() if start <= said < end]
        latencies = [latency * 1000 for latency in took if latency is not None]
        if not latencies:
            return Heard(float("inf"), float("inf"), float("inf"), len(took), len(took))
        p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
        return Heard(p50, p99, max(latencies), len(took), len(took) - len(latencies))

    @property
    def dropped(self) -> int:
        return self._crowd.dropped


@asynccontextmanager
async def bystanders(address: Address, room: str) -> AsyncIterator[Bystanders]:
    """In their room, talking."""
    crowd = Crowd(address)
    await crowd.connect({room: SIZE})
    those = Bystanders(crowd, room)
    talk = asyncio.create_task(those.talk())
    try:
        yield those
    finally:
        talk.cancel()
        await asyncio.gather(talk, return_exceptions=True)
        await crowd.close()
