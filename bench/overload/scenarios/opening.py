"""One person who opens thousands of sockets and keeps them."""

import asyncio
import dataclasses
import time
from collections import Counter

from bench.overload.client import Client, DashboardClient
from bench.overload.outcome import Outcome
from bench.overload.site import Site

TITLE = "one person opens 5,000 sockets, of the chat and of the dashboard"
SOCKETS, AT_ONCE = 5000, 200
MOST = 100  # of one person to a web process: the default of CHANNELBOX_SOCKETS_PERSON


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
    told = sum((client.refused for client in clients), Counter())
    why = ", ".join(f"{count} {code}" for code, count in told.items()) or "none"
    outcome = Outcome([f"{entered} of {sockets} were let in, {why} told; {sockets / seconds:.0f}/s"])
    most = MOST * len(site.channelbox.web)
    outcome.expect(entered <= most, f"more than {most} of one person were let in")
    refused = told["too_many"] + told["too_fast"]  # so many are open, or were opened in a short time
    outcome.expect(entered + refused == sockets, "not all who were refused were told why")
    return outcome
