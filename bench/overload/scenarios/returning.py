"""All clients of a site reconnect at the same moment, after messages were sent while they were disconnected."""

import asyncio
import time

from bench.overload.client import Client
from bench.overload.outcome import Outcome
from bench.overload.site import Site
from channelbox_client import Room

TITLE = "5,000 clients that return at once"
PEOPLE, ROOMS, AT_ONCE = 5000, 10, 100
MISSED = 20  # messages in each room
TIMEOUT_SECONDS = 120.0


async def run(site: Site) -> Outcome:
    rooms = site.rooms(ROOMS)
    people = site.people(PEOPLE)
    rooms_left = await _join_and_drop(site, rooms, people)
    newest = await _talk(site, rooms)
    started = time.perf_counter()
    retries = 0

    async def come_back(number: int) -> tuple[Client, float]:
        nonlocal retries
        while True:
            try:
                client = await Client.connect(site.address, rooms[number % ROOMS], number, rooms_left[number])
                await client.entered
            except OSError:
                retries += 1
                await asyncio.sleep(0.5)
                continue
            await client.until(newest[number % ROOMS])
            return client, time.perf_counter() - started

    async with asyncio.timeout(TIMEOUT_SECONDS):
        back = await asyncio.gather(*(come_back(number) for number in range(people)))
    lacking = sum(client.heard != MISSED or client.missed > 0 for client, _ in back)
    for client, _ in back:
        client.transport.abort()
    times = sorted(seconds for _, seconds in back)
    outcome = Outcome()
    outcome.sentences.append(
        f"half were back with all that they had missed after {times[people // 2]:.1f} s, the last of {people} after "
        f"{times[-1]:.1f} s ({people / times[-1]:.0f}/s); {retries} had to try again; {lacking} with a gap or a double"
    )
    outcome.expect(not lacking, f"{lacking} came back with a gap or a double")
    return outcome


async def _join_and_drop(site: Site, rooms: list[str], people: int) -> list[Room]:
    """Connect everybody and drop the connections. Returns the room state of each client."""
    clients: list[Client] = []
    for first in range(0, people, AT_ONCE):
        some = range(first, min(first + AT_ONCE, people))
        clients += await asyncio.gather(*(Client.connect(site.address, rooms[n % ROOMS], n) for n in some))
        await asyncio.gather(*(client.entered for client in clients[first:]))
    for client in clients:
        client.transport.abort()
    return [client.room for client in clients]


async def _talk(site: Site, rooms: list[str]) -> list[int]:
    """Send messages to each room. Returns the newest number of each."""
    newest = []
    for room in rooms:
        talker = await Client.connect(site.address, room, site.person())
        await talker.entered
        for number in range(MISSED):
            talker.say(f"r{number}", f"missed {number}")
        while talker.waiting:
            await asyncio.sleep(0.01)
        newest.append(talker.room.last or 0)
        talker.transport.abort()
    return newest
