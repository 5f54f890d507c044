"""What this process has done: plain numbers, raised where it happens and reported each second."""

import collections
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Totals since the start, and the newest durations of some steps, in seconds."""

    connections: int = 0  # open now
    rooms: int = 0  # rooms with members here now
    accepted: int = 0  # sockets, since the start
    delivered: int = 0  # frames written to members
    received: int = 0  # frames from clients
    sent: int = 0  # messages put into the outbox
    acknowledged: int = 0  # messages heard back
    resent: int = 0  # batches sent again because no answer came
    refused: int = 0  # errors told to clients
    slow_closed: int = 0  # readers cut off
    repairs: int = 0  # holes read from the database
    dropped: int = 0  # messages that a channel of the default layer was too full or too late to take
    reconnects: int = 0  # of the bus
    ignored: int = 0  # messages from pub/sub that could not be understood
    restarted: int = 0  # times that a background task failed, and was started again or its work came again
    handled: int = 0  # entries taken from the queue by this worker
    expired: int = 0  # entries too old to be stored
    stored: int = 0  # messages committed
    draining: bool = False  # going away: takes nothing new
    durations: dict[str, collections.deque[float]] = field(default_factory=dict)


counters = Counters()


def observe(step: str, seconds: float) -> None:
    """Remembers how long a step took; the newest 1,000 of each step are kept."""
    kept = counters.durations.get(step)
    if kept is None:
        kept = counters.durations[step] = collections.deque(maxlen=1000)
    kept.append(seconds)
