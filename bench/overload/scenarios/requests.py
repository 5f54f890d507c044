"""One person who requests pages over hundreds of connections at once, without pause."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from bench.generator import HOST
from bench.overload.client import Client
from bench.overload.outcome import Outcome
from bench.overload.site import Site

TITLE = "one person asks for the list of rooms over 300 connections"
CONNECTIONS, ROOMS = 300, 50
SECONDS = 15.0


async def run(site: Site) -> Outcome:
    cookies = site.address.cookies
    return await flood(site, [cookies[site.person() % len(cookies)]] * CONNECTIONS)


async def flood(site: Site, cookies: Sequence[str]) -> Outcome:
    """Send requests one after another on one connection per cookie."""
    await _make_rooms(site)
    end = time.perf_counter() + site.seconds(SECONDS)
    statuses: Counter[int] = Counter()

    async def ask(cookie: str) -> None:
        lines = ["GET /chat/api/rooms HTTP/1.1", f"Host: {HOST}:{site.address.port}", f"Cookie: {cookie}", "", ""]
        request = "\r\n".join(lines).encode()
        while time.perf_counter() < end:
            reader, writer = await asyncio.open_connection(HOST, site.address.port)
            try:
                while time.perf_counter() < end:
                    writer.write(request)
                    statuses[await _status(reader)] += 1
            except (ConnectionError, asyncio.IncompleteReadError):
                statuses[0] += 1
            finally:
                writer.close()

    await asyncio.gather(*(ask(cookie) for cookie in cookies))
    answers = ", ".join(f"{count} of {status}" for status, count in sorted(statuses.items()))
    outcome = Outcome([f"{sum(statuses.values())} answers: {answers}"])
    outcome.expect(not statuses[0], f"{statuses[0]} requests were not answered")
    return outcome


async def _make_rooms(site: Site) -> None:
    for room in site.rooms(ROOMS):
        client = await Client.connect(site.address, room, site.person())
        await client.entered
        client.transport.abort()


async def _status(reader: asyncio.StreamReader) -> int:
    """Read a response and return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])
