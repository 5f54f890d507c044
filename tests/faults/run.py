"""One run: clients send messages while faults strike one after another, and in the end have time to catch up."""

import asyncio
import contextlib
import itertools
import random
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from channels_redis.utils import _consistent_hash
from tests.faults.client import Client
from tests.faults.faults import Fault
from tests.faults.history import History, What, read
from tests.faults.people import KINDS, TALKING, UNUSUAL
from tests.faults.verdict import Verdict, judge

TIMEOUT_SECONDS = 40.0
PULSE_SECONDS = 0.05
CALM_SECONDS = (1.0, 3.0)  # between the recovery from a fault and the next one
ASLEEP_SECONDS = (5.0, 30.0)
AWAKE_SECONDS = (5.0, 20.0)


class Target(Protocol):
    """An installation in which faults can be caused."""

    url: str
    options: dict[str, Any]  # of websockets' `connect`

    async def cookies(self, count: int) -> list[str]: ...
    async def rows(self) -> list[tuple[str, int, str]]: ...
    def faults(self) -> list[Fault]: ...
    def missing(self) -> list[str]: ...


class Crowd:
    """All clients. Each room has senders, readers, a sleeper that is often away, and clients of unusual kinds."""

    def __init__(self, rooms: int, senders: int, readers: int, rate: float, redis_hosts: int = 1) -> None:
        """`rate`: messages per second, of all together. `redis_hosts`: of the target; rooms are spread over them."""
        run = secrets.token_hex(3)  # new rooms, as those of an earlier run may still exist
        names = (f"faults-{run}-{n}" for n in itertools.count(1))
        self.rooms = [
            next(name for name in names if _consistent_hash(f"channelbox:room:{name}", redis_hosts) == n % redis_hosts)
            for n in range(rooms)
        ]
        self.senders = senders
        self.readers = readers
        self.rate = rate
        self.said = 0
        self.talking: list[Client] = []
        self.clients: list[Client] = []

    async def enter(self, target: Target, history: History, rng: random.Random) -> None:
        """Create the clients, which do nothing before `alive`."""
        kinds = [("sender", self.senders), ("reader", self.readers), ("sleeper", 1), *UNUSUAL]
        people = [(kind, n, room) for room in self.rooms for kind, count in kinds for n in range(count)]
        shared: dict[str, str] = {}  # the session of a room's twins
        for (kind, n, room), cookie in zip(people, await target.cookies(len(people)), strict=True):
            if kind == "twin":
                cookie = shared.setdefault(room, cookie)
            options = {**target.options, "additional_headers": {"Cookie": cookie}}
            own = random.Random(rng.random())
            client = KINDS.get(kind, Client)(f"{room}-{kind}-{n}", room, target.url, history, own, **options)
            self.clients.append(client)
            if kind in TALKING:
                self.talking.append(client)

    @asynccontextmanager
    async def alive(self, rng: random.Random) -> AsyncIterator[None]:
        """Connect the clients, and let sleepers leave and return."""
        tasks = [asyncio.create_task(client.run()) for client in self.clients]
        sleepers = [client for client in self.clients if "sleeper" in client.name]
        tasks += [asyncio.create_task(_sleep(client, random.Random(rng.random()))) for client in sleepers]
        try:
            await _soon(tasks, lambda: all(client.joined for client in self.clients), TIMEOUT_SECONDS)
            yield
            _raise_from(tasks)
        finally:
            await _end(tasks)

    @asynccontextmanager
    async def talk(self, rng: random.Random) -> AsyncIterator[None]:
        """Let clients send messages at random intervals, whatever happens."""
        pause = len(self.talking) / self.rate
        tasks = [asyncio.create_task(self._say(client, pause, random.Random(rng.random()))) for client in self.talking]
        try:
            yield
            _raise_from(tasks)
        finally:
            await _end(tasks)

    async def _say(self, client: Client, pause: float, rng: random.Random) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            # At most 1 s overdue, so that no burst follows a long outage
            due = max(due + pause * rng.uniform(0.5, 1.5), loop.time() - 1)
            await asyncio.sleep(due - loop.time())
            await client.speak()
            self.said += 1

    async def caught_up(self, seconds: float) -> bool:
        """Wait until all messages sent so far are answered, and all present clients are within 5 events of the newest.

        Returns False if that takes longer than `seconds`.
        """
        waiting = [(client, frozenset(client.unanswered)) for client in self.talking]

        def answered() -> bool:
            return all(ids.isdisjoint(client.unanswered) for client, ids in waiting)

        def heard() -> bool:
            newest = {room: max(c.seq for c in self.clients if c.room == room) for room in self.rooms}
            return all(client.seq >= newest[client.room] - 5 for client in self.clients if client.wanted)

        return await _soon([], lambda: answered() and heard(), seconds)

    async def settle(self, seconds: float) -> bool:
        """Wait until all clients, including sleepers, have received everything. Returns False after `seconds`."""
        for client in self.clients:
            client.come_back()

        def quiet() -> bool:
            return all(
                not client.unanswered and client.seq == max(c.seq for c in self.clients if c.room == client.room)
                for client in self.clients
            )

        return await _soon([], quiet, seconds)


async def run(
    target: Target,
    history: History,
    crowd: Crowd,
    faults: Sequence[Fault],
    messages: int,
    rng: random.Random,
    print_line: Callable[[str], None],
    timeout: float = TIMEOUT_SECONDS,
) -> None:
    """Let all faults strike, and clients send at least `messages` messages. Then the history is complete."""
    loop = asyncio.get_running_loop()
    await crowd.enter(target, history, rng)
    async with _watched(history), crowd.alive(rng):
        async with crowd.talk(rng):
            for fault in faults:
                await asyncio.sleep(rng.uniform(*CALM_SECONDS))
                print_line(fault.name)
                begun = loop.time()
                history.add("", What.BEGINS, note=fault.name)
                await fault.strike(rng)
                history.add("", What.ENDS, note=fault.name)
                if not await crowd.caught_up(timeout):
                    # Recorded here, as in the next fault's window the delay would count from the end of that one.
                    note = f"{timeout:.0f} s after {fault.name} not everybody had caught up"
                    history.add("", What.BROKEN, note=note)
                    print_line(f"  {note}")
                await asyncio.sleep(begun + fault.seconds - loop.time())
            while crowd.said < messages:
                await asyncio.sleep(0.1)
        if not await crowd.settle(timeout):
            note = f"after {timeout:.0f} s of silence not everybody had heard everything"
            history.add("", What.BROKEN, note=note)
            print_line(note)
    for room, seq, id in await target.rows():
        if room in crowd.rooms:
            history.add("", What.STORED, room=room, id=id, seq=seq)


async def examine(folder: Path, *arguments: Any) -> Verdict:
    """Run, and return the verdict. The history stays in the folder. Arguments as in `run`, without the history."""
    target, *others = arguments
    history = History(folder / "history.jsonl")
    try:
        await run(target, history, *others)
    finally:
        history.close()
    return await asyncio.to_thread(lambda: judge(read(history.path)))


@asynccontextmanager
async def _watched(history: History) -> AsyncIterator[None]:
    """Record when the machine delays the checker, because it then delays the installation as well."""

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PULSE_SECONDS
            await asyncio.sleep(PULSE_SECONDS)
            if (late := loop.time() - due) > PULSE_SECONDS:
                history.add("", What.LATE, note=f"{late:.2f}")

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        await _end([task])


async def _sleep(client: Client, rng: random.Random) -> None:
    while True:
        await asyncio.sleep(rng.uniform(*AWAKE_SECONDS))
        if client.joined:
            client.go_away()
            await asyncio.sleep(rng.uniform(*ASLEEP_SECONDS))
            client.come_back()


async def _soon(tasks: list[asyncio.Task[None]], condition: Callable[[], bool], seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():
                _raise_from(tasks)
                await asyncio.sleep(0.05)
            return True
    return False


def _raise_from(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
