"""`make bench-growth`, or `python -m bench.growth --help`: costs as members, rooms, processes and nodes grow."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from bench import machine
from bench.growth.nodes import Nodes
from bench.growth.page import page
from bench.growth.sweeps import LIMITS, LOCAL_SWEEPS, SWEEPS, Point, points
from bench.workspace import workspace

ROOT = Path(__file__).resolve().parents[2]


async def growth(names: Sequence[str], quick: bool, folder: Path, console: Console) -> list[Point]:
    """Run the sweeps, and print each point when it is measured."""
    found = []
    nodes = Nodes(LIMITS)
    try:
        for name in names:
            sweep = SWEEPS[name]
            console.print(f"\n[bold]{sweep.title}[/bold]")
            async for point in points(sweep, quick, folder, nodes):
                found.append(point)
                console.print(_line(point))
    finally:
        await nodes.stop()
    return found


def _line(point: Point) -> str:
    flying = f"{point.in_flight} in flight, " if point.in_flight else ""
    return (
        f"  {point.at:6}  {flying}{point.delivery_us:.2f} us a delivery, {point.message_ms:.2f} ms a message, "
        f"p50 {point.p50_ms:.1f} ms, p99 {point.p99_ms:.1f} ms, {point.connects_per_s:.0f} connects/s, "
        f"fullest {point.balance:.2f}, generator {point.busy:.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps, a third of the time")
    parser.add_argument("sweep", nargs="*", help=f"some of {', '.join(SWEEPS)} (default: {', '.join(LOCAL_SWEEPS)})")
    options = parser.parse_args()
    if unknown := set(options.sweep) - set(SWEEPS):
        parser.error(f"no such sweep: {', '.join(sorted(unknown))}")
    console = Console(highlight=False, soft_wrap=True)
    this = machine.describe(quick=options.quick)
    with workspace("growth") as (folder, runner):
        found = runner.run(growth(options.sweep or list(LOCAL_SWEEPS), options.quick, folder, console))
    content = {"machine": this, "points": [asdict(point) for point in found]}
    (ROOT / "build" / "growth.json").write_text(json.dumps(content, indent=1) + "\n")
    (ROOT / "build" / "growth.html").write_text(page(this, found))
    console.print("\nbuild/growth.json, build/growth.html")


if __name__ == "__main__":
    main()
