"""People come: how fast they are in, and what memory each takes while nothing is said."""

import asyncio
from dataclasses import dataclass

from bench.generator import Busy, Crowd, measured
from bench.peers.peer import Peer
from bench.processes import cpu_seconds, memory_kb

SETTLE_SECONDS = 2.0  # what a server does after somebody came: presence, a second look at rights
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
    """Fills the rooms, then waits a moment until the server is quiet."""
    people = sum(sizes.values())
    cpu, memory = cpu_seconds(peer.processes), memory_kb(peer.processes)
    with measured() as busy:
        seconds = await crowd.connect(sizes)
    await asyncio.sleep(SETTLE_SECONDS)
    grown = (memory_kb(peer.processes) - memory) / people
    return Joined(people, seconds, cpu_seconds(peer.processes) - cpu, grown, busy)
