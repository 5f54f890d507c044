"""Clients that stop reading in a busy room."""

import asyncio
import itertools
import time

from bench.overload.client import Client
from bench.overload.outcome import Outcome
from bench.overload.site import Site

TITLE = "50 readers that stop reading"
READERS, TALKERS = 50, 10
SECONDS = 15.0
INTERVAL_SECONDS = 0.07  # between messages of a talker, below the rate limit
TEXT = "\U0001f4e6" * 3900  # four bytes per character


async def run(site: Site) -> Outcome:
    (room,) = site.rooms(1)
    talkers = [await Client.connect(site.address, room, site.person()) for _ in range(TALKERS)]
    stalled = [await Client.connect(site.address, room, site.person()) for _ in range(READERS)]
    await asyncio.gather(*(client.entered for client in talkers + stalled))
    try:
        for client in stalled:
            client.transport.pause_reading()
        end = time.perf_counter() + site.seconds(SECONDS)
        for number in itertools.count():
            if time.perf_counter() > end:
                break
            talkers[number % TALKERS].say(f"d{number}", TEXT)
            await asyncio.sleep(INTERVAL_SECONDS / TALKERS)
        heard = max(client.heard for client in talkers)
        for client in stalled:
            client.transport.resume_reading()
        await asyncio.sleep(2)
        cut = sum(client.closed.done() for client in stalled)
    finally:
        for client in talkers + stalled:
            client.transport.abort()
    megabytes = heard * len(TEXT) * 4 / 2**20
    outcome = Outcome(
        [f"{megabytes:.0f} MiB were said to each; {cut} of {READERS} were cut off, each past its own buffer"]
    )
    outcome.expect(cut == READERS, f"{READERS - cut} who do not read were not cut off")
    return outcome
