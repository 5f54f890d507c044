"""Measures joining: how fast members join, and the memory of each idle connection."""

import asyncio
import time
from dataclasses import dataclass

from bench.generator import Busy, Crowd, measured
from bench.peers.peer import Peer
from bench.processes import cpu_seconds, memory_kb

POLL_SECONDS = 0.5
# Share of a core, in three polls, below which the work after a join (presence, a second check of rights) is over
QUIET = 0.05
MAX_SETTLE_SECONDS = 15.0
WARM_UP_MEMBERS = 50  # join and leave before memory is measured, so that one-time allocations are done


@dataclass
class Joined:
    """The results of letting members join."""

    people: int
    seconds: float
    cpu: float  # seconds of CPU time of the server, including the time until it is quiet
    memory_kb: float  # growth per connection; meaningful only after `restart`
    busy: Busy

    @property
    def connects_per_s(self) -> float:
        return self.people / self.seconds


async def restart(peer: Peer) -> None:
    """Restart the server's processes, as used ones have memory left over from earlier clients, and warm them up."""
    await peer.restart()
    crowd = Crowd(peer.address)
    await crowd.connect({"first": WARM_UP_MEMBERS})
    await crowd.close()


async def join(peer: Peer, crowd: Crowd, sizes: dict[str, int]) -> Joined:
    """Let members join the rooms, then wait until the server is quiet."""
    people = sum(sizes.values())
    cpu, memory = cpu_seconds(peer.processes), memory_kb(peer.processes)
    with measured() as busy:
        seconds = await crowd.connect(sizes)
    await settled(peer)
    grown = (memory_kb(peer.processes) - memory) / people
    return Joined(people, seconds, cpu_seconds(peer.processes) - cpu, grown, busy)


async def settled(peer: Peer) -> None:
    """Wait until the server has used hardly any CPU time for a while, but for at most `MAX_SETTLE_SECONDS`."""
    end = time.monotonic() + MAX_SETTLE_SECONDS
    quiet = 0
    used = cpu_seconds(peer.processes)
    while quiet < 3 and time.monotonic() < end:
        await asyncio.sleep(POLL_SECONDS)
        before, used = used, cpu_seconds(peer.processes)
        quiet = quiet + 1 if used - before < QUIET * POLL_SECONDS else 0
