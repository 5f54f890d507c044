"""Samples of single runs, and figures computed from them: medians with minimum and maximum."""

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
BOTTLENECK = 0.9  # share of a core that the generator uses


@dataclass(frozen=True)
class Sample:
    """A measurement of one run of one server. `size` is the number of members, summed over all rooms."""

    figure: str
    server: str
    size: int
    value: float
    unit: str
    busy: float = 0.0  # the generator's share of a core
    in_flight: int | None = None  # number of messages in flight, if the figure depends on it


@dataclass(frozen=True)
class Figure:
    """The summary of all runs of one figure."""

    figure: str
    server: str
    size: int
    median: float
    min: float
    max: float
    unit: str
    runs: int
    generator_busy: float  # highest share of a core in any run
    in_flight: int | None = None

    @property
    def bottleneck(self) -> bool:
        """Return whether the generator was the bottleneck, so that the server could have shown a better value."""
        return self.generator_busy > BOTTLENECK

    def record(self) -> dict[str, Any]:
        """Return the figure as it is in bench.json, without `in_flight` if it does not apply."""
        record = asdict(self)
        if self.in_flight is None:
            del record["in_flight"]
        return record


def summed_up(samples: Iterable[Sample]) -> list[Figure]:
    """Combine samples that differ only in value into one figure each, in the order of their first sample."""
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
    """Return the smallest value that at least a share (0 to 1) of all values does not exceed.

    Raises ValueError if there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, min(len(ordered) - 1, round(share * len(ordered) + 0.4999999) - 1))]


def advantage(own: Figure, peer: Figure) -> float | None:
    """Return how many times better channelbox is than the peer; below 1 it is worse. None instead of dividing by 0."""
    better, worse = (own, peer) if own.figure in MORE_IS_BETTER else (peer, own)
    return better.median / worse.median if worse.median else None


@dataclass(frozen=True)
class Row:
    """One comparison: a figure at one size, for every server that has it."""

    figure: str
    size: int
    in_flight: int | None
    servers: dict[str, Figure]

    @property
    def title(self) -> str:
        """The label of the row in a table."""
        # For max_connections the size is the result, not a parameter.
        size = "" if self.figure == "max_connections" else f", {self.size}"
        return f"{self.figure}{size}" + (f", {self.in_flight} in flight" if self.in_flight else "")

    def advantage(self, server: str) -> float | None:
        """Return `advantage` over a server; None also if one of the two has no figure."""
        own, peer = self.servers.get(OWN), self.servers.get(server)
        return advantage(own, peer) if own and peer else None


def rows(figures: Iterable[Figure]) -> list[Row]:
    """Return the rows, ordered by `TITLES`, then by size and number in flight."""
    found: dict[tuple[str, int, int | None], Row] = {}
    for figure in figures:
        size = 0 if figure.figure == "max_connections" else figure.size
        key = (figure.figure, size, figure.in_flight)
        found.setdefault(key, Row(*key, {})).servers[figure.server] = figure
    order = list(TITLES)
    return sorted(found.values(), key=lambda row: (order.index(row.figure), row.size, row.in_flight or 0))
