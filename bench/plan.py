"""Plans of what is measured: the full one of `make bench`, and one of under five minutes for QUICK=1."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Visit:
    """Runs with `size` members in one room of each server, in `rounds` rounds in which the servers take turns."""

    size: int
    rounds: int
    in_flight: tuple[int, ...]  # one run each; delivery_cpu comes from the run with 4
    seconds: float  # of each run
    memory: bool = False  # measure memory too, after a restart of the processes


@dataclass(frozen=True)
class Plan:
    visits: tuple[Visit, ...]
    storing_rounds: int
    storing_seconds: float
    holding: tuple[int, ...]  # further numbers of connections to try, beyond those of the visits
    holding_messages: int
    seconds: float  # after which no further step is started; skipped steps are reported
    people: int = 1000  # each with a session


CPU_IN_FLIGHT = 4
STORING_ROOMS, STORING_SIZE = 20, 2000
# In each room. The tutorial would lose messages with more: its layer keeps 100 messages per process and drops the rest.
STORING_IN_FLIGHT = 4
MAX_ROOM = 5000  # members

QUICK = Plan(
    visits=(
        Visit(200, 2, (4,), 1.0),
        Visit(1000, 1, (1, 4, 16), 1.0),
        Visit(5000, 1, (4,), 1.0, memory=True),
    ),
    storing_rounds=1,
    storing_seconds=2.0,
    holding=(),
    holding_messages=2,
    seconds=220,
)
FULL = Plan(
    visits=(
        Visit(200, 5, (1, 4, 16), 2.0),
        Visit(1000, 5, (1, 4, 16), 2.0),
        Visit(5000, 3, (4,), 2.0, memory=True),
    ),
    storing_rounds=3,
    storing_seconds=4.0,
    holding=(10_000, 15_000),
    holding_messages=10,
    seconds=3600,
)
