"""The path of a message as jobs of processes: outbox, queue, worker, database, publish, fan-out.

Constants of the application are imported from it: how long a batch waits for more messages, and how many entries a
worker takes at once.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.simulator.clock import Clock, Machine, Process
from channelbox.work.outbox import (
    BATCH_DELAY_SECONDS,
    BATCH_DELAY_SECONDS_PER_MEMBER,
    MAX_BATCH,
    MAX_BATCH_DELAY_SECONDS,
)
from channelbox.work.worker import BATCH

PIECES = 10  # into which a fan-out is divided


@dataclass(frozen=True)
class Costs:
    """Costs in seconds of a core, except for the last two, which are waits. A delivery is one message to one member."""

    take: float  # web: receiving a frame and adding it to a batch
    push: float  # web: sending a batch to the queue, and its outcome
    batch: float  # worker: a transaction, regardless of its content
    entry: float  # worker: each room in it
    message: float  # worker: each message
    database: float  # PostgreSQL: a transaction
    row: float  # PostgreSQL: each message
    publish: float  # web: receiving a publish
    write: float  # web: one write to one member
    more: float  # web: each further message in the same write
    hear: float  # load generator: receiving a chunk at one member
    say: float  # load generator: sending a message
    commit: float  # s that a transaction waits for the disk
    trip: float  # s of a round trip to Redis


@dataclass(frozen=True)
class Setup:
    """The simulated installation. `apart`: every kind of process has machines of its own; otherwise all share one."""

    members: int
    rooms: int = 1
    web: int = 1
    workers: int = 1
    cores: int = 2
    in_flight: int | None = 4  # in each room; or:
    rate: float = 0.0  # messages a second over all rooms, at random times
    apart: bool = False


@dataclass
class Result:
    """The result of a simulation."""

    seconds: float
    messages: int = 0
    deliveries: int = 0
    latencies: list[float] = field(default_factory=list)  # s, from sending to the last member
    server: float = 0.0  # core seconds, without Redis and the load generator
    busiest_web: float = 0.0  # share of a core
    busiest_worker: float = 0.0
    database: float = 0.0  # cores in use

    @property
    def delivery_us(self) -> float:
        return self.server * 1e6 / self.deliveries


class _Message:
    __slots__ = ("room", "said", "waits_for")

    def __init__(self, room: "_Room", said: float, waits_for: int) -> None:
        self.room = room
        self.said = said
        self.waits_for = waits_for  # web processes whose members have not received it


class _Room:
    """A room in all web processes. Each outbox has at most one batch of it in flight."""

    def __init__(self, local: list[int]) -> None:
        """`local`: number of members in each web process."""
        self.local = local
        self.homes = [number for number, count in enumerate(local) if count]
        self.waiting: list[deque[_Message]] = [deque() for _ in local]
        self.flying = [False] * len(local)
        self.several = [False] * len(local)


class Simulation:
    """One simulation. `run` first warms it up, then measures for some seconds."""

    def __init__(self, setup: Setup, costs: Costs, seed: int = 1) -> None:
        self.setup, self.costs = setup, costs
        self.clock = Clock()
        self._chance = random.Random(seed)
        shared = Machine(self.clock, setup.cores)

        def process() -> Process:
            return Process(Machine(self.clock, 1) if setup.apart else shared)

        self.web = [process() for _ in range(setup.web)]
        self.workers = [process() for _ in range(setup.workers)]
        database = Machine(self.clock, setup.cores) if setup.apart else shared
        self.database = {worker: Process(database) for worker in self.workers}  # one PostgreSQL connection each
        self.generator = None if setup.apart else Process(shared)
        self.rooms = [_Room(self._spread()) for _ in range(setup.rooms)]
        self._queue: deque[tuple[_Room, int, list[_Message]]] = deque()
        self._idle = list(self.workers)
        self._result: Result | None = None

    def run(self, warm_up: float, seconds: float) -> Result:
        if self.setup.rate:
            self._arrive()
        else:
            for room in self.rooms:
                for _ in range(self.setup.in_flight or 1):
                    self._say(room)
        self.clock.run(warm_up)
        result = self._result = Result(seconds)
        processes = [*self.web, *self.workers, *self.database.values()]
        before = [process.used for process in processes]
        self.clock.run(warm_up + seconds)
        used = [process.used - start for process, start in zip(processes, before, strict=True)]
        result.server = sum(used)
        result.busiest_web = max(used[: len(self.web)]) / seconds
        web, workers = len(self.web), len(self.workers)
        result.busiest_worker = max(used[web : web + workers]) / seconds
        result.database = sum(used[web + workers :]) / seconds
        return result

    def _spread(self) -> list[int]:
        """Distribute a room's members over the web processes: evenly if it is the only room, otherwise at random."""
        members, web = self.setup.members // self.setup.rooms, self.setup.web
        if self.setup.rooms == 1:
            each, rest = divmod(members, web)
            return [each + (number < rest) for number in range(web)]
        local = [0] * web
        for number in self._chance.choices(range(web), k=members):
            local[number] += 1
        return local

    # --- Clients

    def _arrive(self) -> None:
        self.clock.after(self._chance.expovariate(self.setup.rate), self._arrived)

    def _arrived(self) -> None:
        self._say(self._chance.choice(self.rooms))
        self._arrive()

    def _say(self, room: _Room) -> None:
        message = _Message(room, self.clock.now, len(room.homes))
        (home,) = self._chance.choices(range(len(self.web)), room.local)

        def taken() -> None:
            room.waiting[home].append(message)
            if not room.flying[home] and len(room.waiting[home]) == 1:
                self._schedule(room, home)

        self._generate(self.costs.say, lambda: self.web[home].do(self.costs.take, taken))

    def _generate(self, seconds: float, then: Callable[[], None]) -> None:
        if self.generator is None:
            then()
        else:
            self.generator.do(seconds, then)

    # --- The outbox

    def _schedule(self, room: _Room, home: int) -> None:
        if not room.several[home]:
            self._launch(room, home)
        else:
            pause = min(
                MAX_BATCH_DELAY_SECONDS, BATCH_DELAY_SECONDS + BATCH_DELAY_SECONDS_PER_MEMBER * room.local[home]
            )
            self.clock.after(pause, lambda: self._launch(room, home))

    def _launch(self, room: _Room, home: int) -> None:
        if room.flying[home] or not room.waiting[home]:
            return
        room.flying[home] = True

        def pushed() -> None:
            waiting = room.waiting[home]
            messages = [waiting.popleft() for _ in range(min(MAX_BATCH, len(waiting)))]
            self.clock.after(self.costs.trip, lambda: self._queued(room, home, messages))

        self.web[home].do(self.costs.push, pushed)

    def _queued(self, room: _Room, home: int, messages: list[_Message]) -> None:
        self._queue.append((room, home, messages))
        if self._idle:
            self._work(self._idle.pop())

    # --- The worker

    def _work(self, worker: Process) -> None:
        if not self._queue:
            self._idle.append(worker)
            return
        entries = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        count = sum(len(messages) for _, _, messages in entries)
        costs = self.costs

        def prepared() -> None:
            self.database[worker].do(costs.database + costs.row * count, lambda: self.clock.after(costs.commit, stored))

        def stored() -> None:
            self.clock.after(costs.trip, lambda: self._published(entries))
            self._work(worker)

        worker.do(costs.batch + costs.entry * len(entries) + costs.message * count, prepared)

    # --- The fan-out

    def _published(self, entries: Sequence[tuple[_Room, int, list[_Message]]]) -> None:
        for room, home, messages in entries:
            for number in room.homes:
                self._fan_out(room, number, messages, ended=number == home)

    def _fan_out(self, room: _Room, number: int, messages: list[_Message], *, ended: bool) -> None:
        """Write in pieces, so that the first members receive the message before the last are written to."""
        costs, members = self.costs, room.local[number]
        pieces = min(PIECES, members)
        unheard = [pieces]

        def written() -> None:
            self._generate(costs.hear * members / pieces, heard)

        def all_written() -> None:
            written()
            if ended:
                room.flying[number] = False
                room.several[number] = len(messages) + len(room.waiting[number]) > 1
                if room.waiting[number]:
                    self._schedule(room, number)

        def heard() -> None:
            unheard[0] -= 1
            if unheard[0]:
                return
            for message in messages:
                message.waits_for -= 1
                if not message.waits_for:
                    self._heard(message)

        web, seconds = self.web[number], members * (costs.write + costs.more * (len(messages) - 1)) / pieces
        for piece in range(pieces):
            first, last = piece == 0, piece == pieces - 1
            web.do(seconds + costs.publish * first, all_written if last else written)

    def _heard(self, message: _Message) -> None:
        if (result := self._result) is not None:
            result.messages += 1
            result.deliveries += sum(message.room.local)
            result.latencies.append(self.clock.now - message.said)
        if not self.setup.rate:
            self._say(message.room)
