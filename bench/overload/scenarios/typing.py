"""One person whose many clients all send typing notifications to the bystanders' room."""

import asyncio
import time

from bench.overload.bystanders import room_of
from bench.overload.client import Client
from bench.overload.outcome import Outcome
from bench.overload.site import Site

TITLE = "one person with 100 clients types in the room of the others, in all of them at once"
CONNECTIONS = 100
INTERVAL_SECONDS = 0.25  # the page sends one every 2 s at most
MAX_PER_SECOND = 10.0  # that each member of the room may receive
SECONDS = 15.0


async def run(site: Site) -> Outcome:
    room, person = room_of("typing"), site.person()
    clients = [await Client.connect(site.address, room, person) for _ in range(CONNECTIONS)]
    await asyncio.gather(*(client.entered for client in clients))
    seconds = site.seconds(SECONDS)
    end = time.perf_counter() + seconds
    heard = clients[0].typed
    while time.perf_counter() < end:
        for client in clients:
            client.write(b'{"type": "typing"}')
        await asyncio.sleep(INTERVAL_SECONDS)
    rate = (clients[0].typed - heard) / seconds
    for client in clients:
        client.transport.abort()
    outcome = Outcome([f"{rate:.1f} of them a second reached every member"])
    outcome.expect(rate <= MAX_PER_SECOND, f"more than {MAX_PER_SECOND:.0f} a second reached every member")
    return outcome
