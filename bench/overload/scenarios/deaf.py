"""Readers that stop reading, in a room where much is said."""

import asyncio
import itertools
import time

from bench.overload.client import Client
from bench.overload.outcome import Outcome
from bench.overload.site import Site

TITLE = "50 readers that stop reading"
DEAF, TALKERS = 50, 10
SECONDS = 15.0
EVERY = 0.07  # s, for each talker: below the rate limit
TEXT = "\U0001f4e6" * 3900  # of four bytes each


async def run(site: Site) -> Outcome:
    (room,) = site.rooms(1)
    talkers = [await Client.connect(site.address, room, site.person()) for _ in range(TALKERS)]
    deaf = [await Client.connect(site.address, room, site.person()) for _ in range(DEAF)]
    await asyncio.gather(*(client.entered for client in talkers + deaf))
    try:
        for client in deaf:
            client.transport.pause_reading()
        end = time.perf_counter() + site.seconds(SECONDS)
        for number in itertools.count():
            if time.perf_counter() > end:
                break
            talkers[number % TALKERS].say(f"d{number}", TEXT)
            await asyncio.sleep(EVERY / TALKERS)
        heard = max(client.heard for client in talkers)
        for client in deaf:
            client.transport.resume_reading()
        await asyncio.sleep(2)
        cut = sum(client.closed.done() for client in deaf)
    finally:
        for client in talkers + deaf:
            client.transport.abort()
    megabytes = heard * len(TEXT) * 4 / 2**20
    told = Outcome([f"{megabytes:.0f} MiB were said to each; {cut} of {DEAF} were cut off, each past its own buffer"])
    told.expect(cut == DEAF, f"{DEAF - cut} who do not read were not cut off")
    return told
