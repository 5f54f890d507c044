"""Simulated time, and processes that take turns on the cores of their machines."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from functools import partial

Then = Callable[[], None]


class Clock:
    """Events in the order of their times, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Then]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, then: Then) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), then))

    def run(self, until: float) -> None:
        """Lets time pass; what is due later stays."""
        while self._events and self._events[0][0] <= until:
            self.now, _, then = heapq.heappop(self._events)
            then()
        self.now = until


class Machine:
    """Some cores, given to the processes that have something to do in the order in which they ask."""

    def __init__(self, clock: Clock, cores: int) -> None:
        self.clock = clock
        self.cores = cores
        self._free = cores
        self._ready: deque[Process] = deque()

    def wants(self, process: "Process") -> None:
        self._ready.append(process)
        self._give()

    def _give(self) -> None:
        while self._free and self._ready:
            self._free -= 1
            process = self._ready.popleft()
            cost, then = process.jobs.popleft()
            process.used += cost
            self.clock.after(cost, partial(self._done, process, then))

    def _done(self, process: "Process", then: Then) -> None:
        self._free += 1
        process.running = False
        then()
        process.go_on()
        self._give()


class Process:
    """One thread: a job at a time, in the order in which they came."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.jobs: deque[tuple[float, Then]] = deque()
        self.running = False  # on a core, or waiting for one
        self.used = 0.0  # s

    def do(self, seconds: float, then: Then) -> None:
        """Uses a core for so long, then does what follows, which takes no time."""
        self.jobs.append((seconds, then))
        self.go_on()

    def go_on(self) -> None:
        if self.jobs and not self.running:
            self.running = True
            self.machine.wants(self)
