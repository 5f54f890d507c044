"""Clients that send as fast as they can, and reconnect when the server closes the connection."""

import asyncio
import itertools
import time
from collections import Counter

from bench.overload.client import Client
from bench.overload.outcome import Outcome
from bench.overload.site import Site

TITLE = "5 clients that flood, with messages and with pings"
PING = b'{"type": "ping"}'
FLOODERS, BURST = 5, 200
BUFFER = 256 * 1024  # bytes, the most that a client buffers
FULL_PAUSE = 0.005  # s
SECONDS = 15.0


async def run(site: Site) -> Outcome:
    rooms = site.rooms(FLOODERS)
    end = time.perf_counter() + site.seconds(SECONDS)
    sent, codes, closes = 0, Counter[str](), Counter[int | None]()

    async def flood(number: int) -> None:
        nonlocal sent
        person = site.person()
        ids = itertools.count()
        while time.perf_counter() < end:
            client = await Client.connect(site.address, rooms[number], person)
            try:
                await client.entered
                while time.perf_counter() < end and not client.closed.done():
                    if client.transport.get_write_buffer_size() > BUFFER:  # the server reads more slowly
                        await asyncio.sleep(FULL_PAUSE)
                        continue
                    for _ in range(BURST):
                        if number % 2:
                            client.write(PING)
                        else:
                            client.say(f"f{next(ids)}", "flood")
                    sent += BURST
                    await asyncio.sleep(0)  # lets the other tasks run; nothing here waits for answers
                await asyncio.wait([client.closed], timeout=2)
            except ConnectionError:
                pass
            finally:
                codes.update(client.refused)
                closes[client.close_code] += client.close_code is not None
                client.transport.abort()

    await asyncio.gather(*(flood(number) for number in range(FLOODERS)))
    refusals = ", ".join(f"{count} {code}" for code, count in codes.items())
    closed = ", ".join(f"{count} with {code}" for code, count in closes.items() if count)
    return Outcome(
        [f"{sent} frames written, as many as were taken; refused: {refusals or 'none'}; closed: {closed or 'none'}"]
    )
