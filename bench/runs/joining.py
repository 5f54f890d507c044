"""People come: how fast they are in, and what memory each takes while nothing is said."""

import asyncio
import time
from dataclasses import dataclass

from bench.generator import Busy, Crowd, measured
from bench.peers.peer import Peer
from bench.processes import cpu_seconds, memory_kb

LOOK_SECONDS = 0.5
QUIET = 0.05  # of a core, over three looks: what a server does after somebody came (presence, rights once more) is over
SETTLE_MOST = 15.0
FIRST = 50  # members who come and go before memory is measured: what is made once is made by then


@dataclass
class Joined:
    """What it took until the last was in."""

    people: int
    seconds: float
    cpu: float  # seconds, of the server, the settling included
    memory_kb: float  # growth a connection; of value only after `renewed`
    busy: Busy

    @property
    def connects_per_s(self) -> float:
        return self.people / self.seconds


async def renewed(peer: Peer) -> None:
    """Begins with fresh processes: a used one has memory left over from those who were here before."""
    await peer.renew()
    crowd = Crowd(peer.address)
    await crowd.connect({"first": FIRST})
    await crowd.close()


async def join(peer: Peer, crowd: Crowd, sizes: dict[str, int]) -> Joined:
    """Fills the rooms, then waits until the server is quiet."""
    people = sum(sizes.values())
    cpu, memory = cpu_seconds(peer.processes), memory_kb(peer.processes)
    with measured() as busy:
        seconds = await crowd.connect(sizes)
    await settled(peer)
    grown = (memory_kb(peer.processes) - memory) / people
    return Joined(people, seconds, cpu_seconds(peer.processes) - cpu, grown, busy)


async def settled(peer: Peer) -> None:
    """Returns when the server has hardly used the processor for a while, or after 15 s all the same."""
    end = time.monotonic() + SETTLE_MOST
    quiet = 0
    used = cpu_seconds(peer.processes)
    while quiet < 3 and time.monotonic() < end:
        await asyncio.sleep(LOOK_SECONDS)
        before, used = used, cpu_seconds(peer.processes)
        quiet = quiet + 1 if used - before < QUIET * LOOK_SECONDS else 0
