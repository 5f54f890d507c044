"""One person whose many clients all say that the person is writing, in a room of others."""

import asyncio
import time

from bench.overload.bystanders import room_of
from bench.overload.client import Client
from bench.overload.outcome import Outcome
from bench.overload.site import Site

TITLE = "one person with 100 clients types in the room of the others, in all of them at once"
SOCKETS = 100
EVERY = 0.25  # s; the page says it every 2 s at most
FANOUTS = 10.0  # a second that a member of the room may hear, at most
SECONDS = 15.0


async def run(site: Site) -> Outcome:
    room, person = room_of("typing"), site.person()
    clients = [await Client.connect(site.address, room, person) for _ in range(SOCKETS)]
    await asyncio.gather(*(client.entered for client in clients))
    seconds = site.seconds(SECONDS)
    end = time.perf_counter() + seconds
    heard = clients[0].typed
    while time.perf_counter() < end:
        for client in clients:
            client.write(b'{"type": "typing"}')
        await asyncio.sleep(EVERY)
    rate = (clients[0].typed - heard) / seconds
    for client in clients:
        client.transport.abort()
    outcome = Outcome([f"{rate:.1f} of them a second reached every member"])
    outcome.expect(rate <= FANOUTS, f"more than {FANOUTS:.0f} a second reached every member")
    return outcome
