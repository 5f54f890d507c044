"""Those who only want to talk: a room with a few messages a second, and how long each takes to reach everybody.

They are a process of their own (`python -m bench.overload.bystanders`). In the one that makes the load they would wait
for its event loop, and a burst of it would be taken for the server's.
"""

import asyncio
import functools
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvloop

from bench.figures import percentile
from bench.generator import Address, Crowd
from bench.peers.channelbox import channelbox_at

SIZE = 100
EVERY = 0.1  # s
STOP_SECONDS = 60.0
TALKING = b"talking\n"  # printed when all are in the room


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
    """The process of the bystanders, and what it has told at its end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._took: list[tuple[float, float | None]] = []  # when it was said; seconds until the last had heard it
        self.dropped = 0  # members who lost their connection

    async def stop(self) -> None:
        """Have them stop talking, and take what they heard. May be called again."""
        if self._process.returncode is None:
            async with asyncio.timeout(STOP_SECONDS):
                output, _ = await self._process.communicate(b"")  # ends its standard input
            told = json.loads(output)
            self._took = [(said, latency) for said, latency in told["took"]]
            self.dropped = told["dropped"]

    def between(self, start: float, end: float) -> Heard:
        """Return what was said then, by `time.perf_counter`, which all processes of a machine share."""
        took = [latency for said, latency in self._took if start <= said < end]
        latencies = [latency * 1000 for latency in took if latency is not None]
        if not latencies:
            return Heard(float("inf"), float("inf"), float("inf"), len(took), len(took))
        p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
        return Heard(p50, p99, max(latencies), len(took), len(took) - len(latencies))


@asynccontextmanager
async def bystanders(address: Address, room: str) -> AsyncIterator[Bystanders]:
    """Have them in their room, talking."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.overload.bystanders", room, str(address.port)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    those = Bystanders(process)
    try:
        process.stdin.write(json.dumps(address.cookies).encode() + b"\n")
        if await process.stdout.readline() != TALKING:
            raise RuntimeError("the bystanders cannot enter their room")
        yield those
        await those.stop()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _talk(room: str, port: int) -> None:
    """Talk until the standard input ends, whose first line is the cookies; then print what was heard."""
    crowd = Crowd(channelbox_at(port, json.loads(sys.stdin.readline())))
    await crowd.connect({room: SIZE})
    sys.stdout.buffer.write(TALKING)
    sys.stdout.flush()
    took: dict[float, float | None] = {}
    over = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    for turn in itertools.count():
        if over.done():
            break
        said = time.perf_counter()
        took[said] = None
        crowd.say(room, turn, functools.partial(took.__setitem__, said))
        await asyncio.sleep(EVERY)
    dropped = crowd.dropped
    await crowd.close()
    print(json.dumps({"took": list(took.items()), "dropped": dropped}))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_talk(sys.argv[1], int(sys.argv[2])))
