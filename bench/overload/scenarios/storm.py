"""Many clients that join and leave continuously."""

import asyncio
import itertools
import time

from bench.overload.client import Client
from bench.overload.outcome import Outcome
from bench.overload.site import Site

TITLE = "100 who join and leave without end"
PEOPLE = 100
SECONDS = 15.0


async def run(site: Site) -> Outcome:
    (room,) = site.rooms(1)
    end = time.perf_counter() + site.seconds(SECONDS)
    joined = failed = 0
    people = itertools.count()

    async def join_and_leave() -> None:
        nonlocal joined, failed
        while time.perf_counter() < end:
            # A new person each time, as the limits of one person do not allow this
            client = await Client.connect(site.address, room, next(people))
            try:
                await client.entered
                joined += 1
            except ConnectionError:
                failed += 1
            client.transport.abort()

    await asyncio.gather(*(join_and_leave() for _ in range(PEOPLE)))
    outcome = Outcome([f"{joined / site.seconds(SECONDS):.0f} joins/s, {failed} failed"])
    outcome.expect(not failed, f"{failed} joins failed")
    return outcome
