"""`make simulate`: the model beside what `make bench-growth` measured, then what more connections than that need."""

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
from bench.simulator.model import Costs, Setup, Shown, Simulation

GROWTH = Path(__file__).resolve().parents[2] / "build" / "growth.json"
WARM_UP, SECONDS = 1.0, 4.0
ROOM = 100  # members
EVERY = 60.0  # s between two messages of a person
ONE_PROCESS = 10_000  # connections
ONE_WORKER = 600  # messages a second, each in a room of its own: three quarters of what it can do
SIZES = (1000, 10_000, 100_000, 1_000_000)
LOOKED_AT = 2.0  # s, of the large ones


def measured() -> list[Point]:
    """The points of the last `make bench-growth`. Raises SystemExit, with what to do, where there is none."""
    try:
        content = json.loads(GROWTH.read_text())
    except FileNotFoundError:
        raise SystemExit("There is no build/growth.json yet. Run: make bench-growth") from None
    return [Point(**point) for point in content["points"]]


def again(point: Point, found: Costs) -> Shown:
    """The set-up of a measured point, simulated."""
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
        shown = again(point, found)
        p50, p99 = (percentile(shown.latencies, share) * 1000 for share in (0.5, 0.99))
        pairs = ((point.delivery_us, shown.delivery_us), (point.p50_ms, p50), (point.p99_ms, p99))
        table.add_row(
            f"{point.at} {point.sweep}", str(point.in_flight), *(number(value) for pair in pairs for value in pair)
        )
    console.print(table)


def beyond(found: Costs, console: Console) -> None:
    """Everybody in rooms of a hundred says something once a minute, every process has a core of its own."""
    table = Table(title=f"Rooms of {ROOM}, each person says something every {EVERY:.0f} s", box=box.SIMPLE)
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
        web, rate = max(1, size // ONE_PROCESS), size / EVERY
        workers = math.ceil(rate / ONE_WORKER)
        setup = Setup(size, size // ROOM, web, workers, cores=16, rate=rate, apart=True)
        shown = Simulation(setup, found).run(WARM_UP, LOOKED_AT)
        p50, p99 = (percentile(shown.latencies, share) * 1000 for share in (0.5, 0.99))
        table.add_row(
            f"{size:,}",
            str(web),
            str(workers),
            f"{rate:,.0f}",
            f"{rate * ROOM:,.0f}",
            f"{shown.busiest_web:.0%}",
            f"{shown.busiest_worker:.0%}",
            f"{shown.database:.1f} cores",
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
