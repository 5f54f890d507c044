"""Bystanders: clients in a room with a few messages a second, which measure how long each takes to reach all of them.

They run in a process of their own (`python -m bench.overload.bystanders`). In the process that generates the load they
would wait for its event loop, and its bursts would be mistaken for delays of the server.
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
INTERVAL_SECONDS = 0.1
STOP_SECONDS = 60.0
TALKING = b"talking\n"  # printed when all have joined the room


def room_of(scenario: str) -> str:
    """Return the name of the bystanders' room during a scenario."""
    return f"bystanders-{scenario}"


@dataclass(frozen=True)
class Heard:
    """Latencies of the messages that were sent in a span of time."""

    p50_ms: float
    p99_ms: float
    worst_ms: float
    said: int
    unheard: int  # messages that not everybody has received so far

    def __str__(self) -> str:
        words = f"{self.p50_ms:.0f} / {self.p99_ms:.0f} / {self.worst_ms:.0f} ms"
        return words + (f", {self.unheard} of {self.said} unheard" if self.unheard else "")


class Bystanders:
    """The bystanders' process, and the measurements that it prints at its end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._took: list[tuple[float, float | None]] = []  # time of sending; seconds until the last received it
        self.dropped = 0  # members that lost their connection

    async def stop(self) -> None:
        """Stop the bystanders and read their measurements. Does nothing if they have stopped already."""
        if self._process.returncode is None:
            async with asyncio.timeout(STOP_SECONDS):
                output, _ = await self._process.communicate(b"")  # closes its standard input
            result = json.loads(output)
            self._took = [(said, latency) for said, latency in result["took"]]
            self.dropped = result["dropped"]

    def between(self, start: float, end: float) -> Heard:
        """Return the results of messages sent from `start` to `end`.

        Times are those of `time.perf_counter`, which all processes of a machine share.
        """
        took = [latency for said, latency in self._took if start <= said < end]
        latencies = [latency * 1000 for latency in took if latency is not None]
        if not latencies:
            return Heard(float("inf"), float("inf"), float("inf"), len(took), len(took))
        p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
        return Heard(p50, p99, max(latencies), len(took), len(took) - len(latencies))


@asynccontextmanager
async def bystanders(address: Address, room: str) -> AsyncIterator[Bystanders]:
    """Run bystanders in their room while the context lasts."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.overload.bystanders", room, str(address.port)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    others = Bystanders(process)
    try:
        process.stdin.write(json.dumps(address.cookies).encode() + b"\n")
        if await process.stdout.readline() != TALKING:
            raise RuntimeError("the bystanders cannot enter their room")
        yield others
        await others.stop()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _talk(room: str, port: int) -> None:
    """Send messages until the standard input ends, then print the measurements. Its first line has the cookies."""
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
        await asyncio.sleep(INTERVAL_SECONDS)
    dropped = crowd.dropped
    await crowd.close()
    print(json.dumps({"took": list(took.items()), "dropped": dropped}))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_talk(sys.argv[1], int(sys.argv[2])))
