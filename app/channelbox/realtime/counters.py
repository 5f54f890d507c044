"""Counters of this process: plain numbers, incremented where things happen and reported every second."""

import collections
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Totals since the process started, current values, and recent durations of some steps, in seconds."""

    connections: int = 0  # open connections now
    rooms: int = 0  # rooms with members in this process now
    accepted: int = 0  # connections accepted
    delivered: int = 0  # frames written to members
    received: int = 0  # frames from clients
    sent: int = 0  # messages put into the outbox
    acknowledged: int = 0  # messages whose outcome came back
    resent: int = 0  # batches sent again because no outcome came
    refused: int = 0  # errors sent to clients
    slow_closed: int = 0  # connections closed because the client did not read
    repairs: int = 0  # reads of missing events from the database
    dropped: int = 0  # messages of the default channel layer that were lost because a channel was full or they expired
    reconnects: int = 0  # of the bus
    ignored: int = 0  # pub/sub messages that could not be handled
    restarted: int = 0  # failures of background tasks, restarted or repeated later
    handled: int = 0  # entries taken from the queue by this worker
    expired: int = 0  # entries too old to be stored
    stored: int = 0  # messages committed
    draining: bool = False  # the process is stopping and accepts nothing new
    durations: dict[str, collections.deque[float]] = field(default_factory=dict)


counters = Counters()


def observe(step: str, seconds: float) -> None:
    """Record how long a step took, in seconds. The latest 1,000 durations of each step are kept."""
    kept = counters.durations.get(step)
    if kept is None:
        kept = counters.durations[step] = collections.deque(maxlen=1000)
    kept.append(seconds)
