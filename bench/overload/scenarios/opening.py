"""One person who opens thousands of connections and keeps them open."""

import asyncio
import dataclasses
import time
from collections import Counter

from bench.overload.client import Client, DashboardClient
from bench.overload.outcome import Outcome
from bench.overload.site import Site

TITLE = "one person opens 5,000 sockets, of the chat and of the dashboard"
SOCKETS, AT_ONCE = 5000, 200
MAX_PER_PROCESS = 100  # connections of a person: the default of CHANNELBOX_SOCKETS_PERSON


async def run(site: Site) -> Outcome:
    sockets = site.people(SOCKETS)
    (room,) = site.rooms(1)
    person = site.person()
    dashboard = dataclasses.replace(site.address, path="/ws/dashboard/")
    ways = ((Client, site.address), (DashboardClient, dashboard))
    before = dict(site.processes())
    started = time.perf_counter()
    clients: list[Client] = []
    try:
        for first in range(0, sockets, AT_ONCE):
            kinds = (ways[n % 2] for n in range(min(AT_ONCE, sockets - first)))
            opened = await asyncio.gather(*(kind.connect(address, room, person) for kind, address in kinds))
            clients += opened
            await asyncio.gather(*(client.entered for client in opened), return_exceptions=True)
        seconds = time.perf_counter() - started
        entered = sum(client.entered.done() and client.entered.exception() is None for client in clients)
    finally:
        for client in clients:
            client.transport.abort()
    assert dict(site.processes()) == before, "a process did not survive"
    codes = sum((client.refused for client in clients), Counter())
    why = ", ".join(f"{count} {code}" for code, count in codes.items()) or "none"
    outcome = Outcome([f"{entered} of {sockets} were let in, {why} told; {sockets / seconds:.0f}/s"])
    most = MAX_PER_PROCESS * len(site.channelbox.web)
    outcome.expect(entered <= most, f"more than {most} of one person were let in")
    refused = codes["too_many"] + codes["too_fast"]  # too many are open, or were opened in a short time
    outcome.expect(entered + refused == sockets, "not all who were refused were told why")
    return outcome
