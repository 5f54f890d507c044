"""Clients that send frames that never reach the application: pings, pongs, empty fragments."""

import asyncio
import time
from collections import Counter

from bench import frames
from bench.overload.client import Client
from bench.overload.outcome import Outcome
from bench.overload.site import Site

TITLE = "a client each that floods with pings, pongs and empty fragments"
CONTINUATION = 0
KINDS = {
    "pings": frames.masked(frames.PING, b""),
    "pongs": frames.masked(frames.PONG, b""),
    "empty fragments": b"\0" + frames.masked(CONTINUATION, b"")[1:],
}
BURST = 2000
BUFFER = 256 * 1024  # bytes, the most that a client buffers
FULL_PAUSE = 0.005  # s
SECONDS = 15.0


async def run(site: Site) -> Outcome:
    end = time.perf_counter() + site.seconds(SECONDS)
    sent: Counter[str] = Counter()
    closes: Counter[int | None] = Counter()

    async def flood(kind: str, room: str) -> None:
        frame, person = KINDS[kind], site.person()
        while time.perf_counter() < end:
            client = await Client.connect(site.address, room, person)
            try:
                await client.entered
                if kind == "empty fragments":  # start a message that never ends
                    client.transport.write(bytes((frames.TEXT,)) + frames.masked(frames.TEXT, b"")[1:])
                while time.perf_counter() < end and not client.closed.done():
                    if client.transport.get_write_buffer_size() > BUFFER:  # the server reads more slowly
                        await asyncio.sleep(FULL_PAUSE)
                        continue
                    client.transport.write(frame * BURST)
                    sent[kind] += BURST
                    await asyncio.sleep(0)
                await asyncio.wait([client.closed], timeout=2)
            except ConnectionError:
                pass
            finally:
                closes[client.close_code] += client.close_code is not None
                client.transport.abort()

    await asyncio.gather(*(flood(kind, room) for kind, room in zip(KINDS, site.rooms(len(KINDS)), strict=True)))
    written = ", ".join(f"{count} {kind}" for kind, count in sent.items())
    closed = ", ".join(f"{count} with {code}" for code, count in closes.items() if count)
    return Outcome([f"written, as many as were taken: {written}; closed: {closed or 'none'}"])
