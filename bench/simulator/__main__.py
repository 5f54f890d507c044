"""`make simulate`: compares the model with the results of `make bench-growth`, then simulates more connections."""

import json
import math
from dataclasses import fields
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench import report
from bench.figures import percentile
from bench.growth.sweeps import MEMBERS, PROCESSES, PROCESSES_MEMBERS, Point
from bench.plots import number
from bench.simulator.fit import costs
from bench.simulator.model import Costs, Result, Setup, Simulation

GROWTH = Path(__file__).resolve().parents[2] / "build" / "growth.json"
WARM_UP, SECONDS = 1.0, 4.0
ROOM = 100  # members
INTERVAL_SECONDS = 60.0  # between two messages of a person
CONNECTIONS_PER_WEB = 10_000
RATE_PER_WORKER = 600  # messages per second, each to a different room; three quarters of a worker's capacity
SIZES = (1000, 10_000, 100_000, 1_000_000)
LARGE_SECONDS = 2.0  # simulated for the sizes above


def measured() -> list[Point]:
    """Return the points of the last `make bench-growth`. Raises SystemExit, with what to do, if there is none."""
    try:
        content = json.loads(GROWTH.read_text())
    except FileNotFoundError:
        raise SystemExit("There is no build/growth.json yet. Run: make bench-growth") from None
    return [Point(**point) for point in content["points"]]


def simulate(point: Point, found: Costs) -> Result:
    """Simulate the set-up of a measured point."""
    processes = point.at if point.sweep == PROCESSES.name else 1
    members = PROCESSES_MEMBERS if point.sweep == PROCESSES.name else point.at
    setup = Setup(members, web=processes, workers=processes, in_flight=point.in_flight)
    return Simulation(setup, found).run(WARM_UP, SECONDS)


def compare(points: list[Point], found: Costs, console: Console) -> None:
    table = Table(title="Measured, simulated", box=box.SIMPLE)
    for column in ("", "in flight", "us a delivery", "", "p50, ms", "", "p99, ms", ""):
        table.add_column(column, justify="right")
    for point in points:
        if point.sweep not in (MEMBERS.name, PROCESSES.name):
            continue
        result = simulate(point, found)
        p50, p99 = (percentile(result.latencies, share) * 1000 for share in (0.5, 0.99))
        pairs = ((point.delivery_us, result.delivery_us), (point.p50_ms, p50), (point.p99_ms, p99))
        table.add_row(
            f"{point.at} {point.sweep}", str(point.in_flight), *(number(value) for pair in pairs for value in pair)
        )
    console.print(table)


def beyond(found: Costs, console: Console) -> None:
    """Simulate rooms of 100 whose members each send a message once a minute. Every process has a core of its own."""
    table = Table(title=f"Rooms of {ROOM}, each person says something every {INTERVAL_SECONDS:.0f} s", box=box.SIMPLE)
    for column in (
        "connections",
        "web processes",
        "workers",
        "messages/s",
        "deliveries/s",
        "busiest web",
        "worker",
        "PostgreSQL",
        "p50, ms",
        "p99, ms",
    ):
        table.add_column(column, justify="right")
    for size in SIZES:
        web, rate = max(1, size // CONNECTIONS_PER_WEB), size / INTERVAL_SECONDS
        workers = math.ceil(rate / RATE_PER_WORKER)
        setup = Setup(size, size // ROOM, web, workers, cores=16, rate=rate, apart=True)
        result = Simulation(setup, found).run(WARM_UP, LARGE_SECONDS)
        p50, p99 = (percentile(result.latencies, share) * 1000 for share in (0.5, 0.99))
        table.add_row(
            f"{size:,}",
            str(web),
            str(workers),
            f"{rate:,.0f}",
            f"{rate * ROOM:,.0f}",
            f"{result.busiest_web:.0%}",
            f"{result.busiest_worker:.0%}",
            f"{result.database:.1f} cores",
            number(p50),
            number(p99),
        )
    console.print(table)


def main() -> None:
    console = report.console()
    points = measured()
    try:
        found = costs(points)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    console.print("Costs, in microseconds")
    for each in fields(found):
        console.print(f"  {each.name:10} {getattr(found, each.name) * 1e6:10.2f}")
    compare(points, found, console)
    beyond(found, console)


if __name__ == "__main__":
    main()
