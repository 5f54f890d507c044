"""How much is measured: `make bench`, and with QUICK=1 what fits into five minutes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Visit:
    """A crowd in one room of each server, `rounds` times, the servers in turn."""

    size: int
    rounds: int
    in_flight: tuple[int, ...]  # a run each; delivery_cpu is that of the one with 4
    seconds: float  # of each run
    memory: bool = False  # with fresh processes


@dataclass(frozen=True)
class Plan:
    visits: tuple[Visit, ...]
    storing_rounds: int
    storing_seconds: float
    holding: tuple[int, ...]  # crowds that are tried beyond those of the visits
    holding_messages: int
    seconds: float  # after which nothing more is begun: what is left out is told
    people: int = 1000  # with a session each


CPU_IN_FLIGHT = 4
STORING_ROOMS, STORING_SIZE = 20, 2000
# In each room. More would be lost by the tutorial: its layer keeps 100 messages for a process and drops the rest.
STORING_IN_FLIGHT = 4
ROOM_MOST = 5000

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
