"""Content for screenshots: a morning's conversation, and simulated guests who join, chat and leave."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

from tests.browser.people import Site
from tests.integration.local import Person

LONG = (
    "The crew confirms. Replacing it takes until 07:30. I have told the harbour and the depot: 4713 is held back "
    "there, and 4715 goes over track 6, which is free until 07:45 but has 30 km/h over the bridge."
)
# Minutes ago, name, text.
HISTORY = [
    (1460, "dora", "Night shift has taken over. Nothing open from the day."),
    (1441, "charlie", "Thanks. Good night to those who leave."),
    (58, "dora", "Good morning. Track 4 stays closed until the points are checked."),
    (58, "dora", "The crew is on its way, they expect 40 minutes."),
    (55, "charlie", "Then the 06:12 from the harbour waits at signal 17?"),
    (54, "dora", "Yes. Hold it there, the driver knows."),
    (49, "alice", "Platform screens show +40 for 4711 and +15 for everything behind it."),
    (37, "bob", "Measured at the point heater:\n  left   11.8 A\n  right   3.1 A\nNominal is 12."),
    (35, "charlie", "So the right one is gone. A spare is in store B, shelf 12."),
    (34, "bob", "On my way."),
    (21, "dora", LONG),
    (20, "charlie", "4715 over track 6, route is set."),
    (18, "alice", "Screens are updated."),
    (17, "alice", "Shall I keep the lift at platform 4 running?"),
    (16, "dora", "Please do, the wheelchair group from 4709 is still over there."),
    (4, "bob", "Heater is in, warming up. 12.1 A on both sides."),
    (4, "bob", "Give it ten minutes, then try the points."),
    (1, "charlie", "Will do. Thank you!"),
]
ROOMS = {"yard-north": "Northern yard", "dispatch": "Dispatch", "depot": "Depot", "platforms": "", "night-shift": ""}
PHRASES = ["Track 2 is free.", "Copied.", "4717 is at signal 12.", "Two minutes.", "Done, please check.", "All clear."]


async def create_rooms(site: Site) -> None:
    """Create the rooms, one of them with the morning's history."""
    await site.create_history("yard-north", HISTORY, ROOMS["yard-north"])
    names = {name: title for name, title in ROOMS.items() if name != "yard-north"}
    await site.shell(
        f"for name, title in {names!r}.items(): Room.objects.get_or_create(name=name, defaults={{'title': title}})\n"
        "leads = Room.objects.create(name='shift-leads', title='Shift leads', members_only=True)\n"
        "leads.members.add(User.objects.get(username='alice'))"
    )


@contextlib.asynccontextmanager
async def simulated_guests(site: Site, most: int = 40) -> AsyncIterator[None]:
    """Run a varying number of guests, at most `most`, who chat in the rooms without history."""
    task = asyncio.create_task(_simulate_guests(site, most))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _simulate_guests(site: Site, most: int) -> None:
    rng = random.Random(7)
    rooms = [name for name in ROOMS if name != "yard-north"]
    async with contextlib.AsyncExitStack() as stack:
        here: list[Person] = []
        wanted = most // 2
        while True:
            if rng.random() < 0.05:
                wanted = rng.randint(most // 4, most)
            if len(here) < wanted:
                here.append(await stack.enter_async_context(await site.local.enter(rng.choice(rooms))))
            elif len(here) > wanted:
                await here.pop(rng.randrange(len(here))).connection.close()
            for person in rng.sample(here, min(len(here), rng.randint(0, 1 + wanted // 10))):
                with contextlib.suppress(ConnectionError):
                    await person.say(rng.choice(PHRASES))
            for person in here:
                person.frames.clear()
            await asyncio.sleep(0.5)
