"""Discrete-event simulation: a clock, and processes that share the cores of machines."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from functools import partial

Callback = Callable[[], None]


class Clock:
    """Simulated time in seconds. Runs callbacks in the order of their times."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callback]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, then: Callback) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), then))

    def run(self, until: float) -> None:
        """Advance the time and run the callbacks that are due; later ones stay scheduled."""
        while self._events and self._events[0][0] <= until:
            self.now, _, then = heapq.heappop(self._events)
            then()
        self.now = until


class Machine:
    """A number of cores, assigned to processes in the order in which they request one."""

    def __init__(self, clock: Clock, cores: int) -> None:
        self.clock = clock
        self.cores = cores
        self._free = cores
        self._ready: deque[Process] = deque()

    def request_core(self, process: "Process") -> None:
        self._ready.append(process)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._free and self._ready:
            self._free -= 1
            process = self._ready.popleft()
            cost, then = process.jobs.popleft()
            process.used += cost
            self.clock.after(cost, partial(self._done, process, then))

    def _done(self, process: "Process", then: Callback) -> None:
        self._free += 1
        process.running = False
        then()
        process.start_next()
        self._dispatch()


class Process:
    """A single-threaded process, which runs its jobs in the order in which they were added."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.jobs: deque[tuple[float, Callback]] = deque()
        self.running = False  # on a core, or waiting for one
        self.used = 0.0  # s

    def do(self, seconds: float, then: Callback) -> None:
        """Add a job that uses a core for `seconds` and then calls `then`, which takes no time."""
        self.jobs.append((seconds, then))
        self.start_next()

    def start_next(self) -> None:
        if self.jobs and not self.running:
            self.running = True
            self.machine.request_core(self)
