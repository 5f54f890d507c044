"""Samples of runs, and what is told of them: medians with their spread."""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

OWN = "channelbox"
TITLES = {
    "delivery_cpu": "CPU seconds of the server for 100,000 deliveries",
    "delivery_cpu_at": "The same with other numbers of messages in flight",
    "delivery_p50_ms": "Milliseconds from send to the last member, median",
    "delivery_p99_ms": "Milliseconds from send to the last member, 99 % of the messages",
    "loaded_p99_ms": "The same at 70 % of the most messages a second, said evenly",
    "connects_per_s": "Connects a second, with a session where there are any",
    "connect_cpu_ms": "CPU milliseconds of the server for a connect",
    "idle_memory_kb": "Memory of an idle connection, KiB",
    "stored_per_s": "Messages a second over 20 rooms: stored by channelbox, relayed by the others",
    "max_connections": "Connections held with a message a second to all, of the sizes that were tried",
}
MORE_IS_BETTER = {"connects_per_s", "stored_per_s", "max_connections"}
BOTTLENECK = 0.9  # of a core, used by the generator


@dataclass(frozen=True)
class Sample:
    """What one run of one server showed. `size`: members in all rooms together."""

    figure: str
    server: str
    size: int
    value: float
    unit: str
    busy: float = 0.0  # the generator's share of a core
    in_flight: int | None = None  # messages under way at once, where the figure depends on it


@dataclass(frozen=True)
class Figure:
    """The runs of one figure, together."""

    figure: str
    server: str
    size: int
    median: float
    min: float
    max: float
    unit: str
    runs: int
    generator_busy: float  # at most, 1.0 is one core
    in_flight: int | None = None

    @property
    def bottleneck(self) -> bool:
        """Whether the generator was: the server could have shown a better value."""
        return self.generator_busy > BOTTLENECK

    def record(self) -> dict[str, Any]:
        """As in bench.json; without `in_flight` where it says nothing."""
        record = asdict(self)
        if self.in_flight is None:
            del record["in_flight"]
        return record


def summed_up(samples: Iterable[Sample]) -> list[Figure]:
    """One figure for all samples that differ in their value only, in the order in which they first came."""
    groups: dict[tuple[str, str, int, str, int | None], list[Sample]] = {}
    for sample in samples:
        key = (sample.figure, sample.server, sample.size, sample.unit, sample.in_flight)
        groups.setdefault(key, []).append(sample)
    figures = []
    for (figure, server, size, unit, in_flight), group in groups.items():
        values = [sample.value for sample in group]
        busy = max(sample.busy for sample in group)
        median = statistics.median(values)
        figures.append(
            Figure(figure, server, size, median, min(values), max(values), unit, len(group), busy, in_flight)
        )
    return figures


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that is not exceeded by this share (0 .. 1) of all. Raises ValueError when there are none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, min(len(ordered) - 1, round(share * len(ordered) + 0.4999999) - 1))]


def advantage(own: Figure, peer: Figure) -> float | None:
    """How many times better channelbox is than the peer; below 1 it is worse. None when nothing can be divided."""
    better, worse = (own, peer) if own.figure in MORE_IS_BETTER else (peer, own)
    return better.median / worse.median if worse.median else None


@dataclass(frozen=True)
class Row:
    """What is compared with each other: one figure at one size, of every server that has it."""

    figure: str
    size: int
    in_flight: int | None
    servers: dict[str, Figure]

    @property
    def title(self) -> str:
        """For a line of a table."""
        # The largest crowd is the value here, and not what was given.
        size = "" if self.figure == "max_connections" else f", {self.size}"
        return f"{self.figure}{size}" + (f", {self.in_flight} in flight" if self.in_flight else "")

    def advantage(self, server: str) -> float | None:
        """As `advantage`, None also where one of the two has no figure."""
        own, peer = self.servers.get(OWN), self.servers.get(server)
        return advantage(own, peer) if own and peer else None


def rows(figures: Iterable[Figure]) -> list[Row]:
    """In the order of the titles, then of the sizes."""
    found: dict[tuple[str, int, int | None], Row] = {}
    for figure in figures:
        size = 0 if figure.figure == "max_connections" else figure.size
        key = (figure.figure, size, figure.in_flight)
        found.setdefault(key, Row(*key, {})).servers[figure.server] = figure
    order = list(TITLES)
    return sorted(found.values(), key=lambda row: (order.index(row.figure), row.size, row.in_flight or 0))
