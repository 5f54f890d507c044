"""`make bench-overload`, or `python -m bench.overload --help`: some ask for too much, and what others notice of it."""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench import machine
from bench.overload.bystanders import INTERVAL_SECONDS, SIZE, Heard, bystanders, room_of
from bench.overload.memory import watched
from bench.overload.scenarios import SCENARIOS
from bench.overload.site import Site
from bench.peers.channelbox import Channelbox
from bench.workspace import workspace

ROOT = Path(__file__).resolve().parents[2]
CALM_SECONDS = 6.0  # measured before and after a scenario
SETTLE_SECONDS = 2.0  # pauses before and after that, not measured
MAX_P99_MS = 150.0  # of the bystanders during any scenario
PEOPLE = 1000


@dataclass(frozen=True)
class Result:
    """The result of a scenario."""

    name: str
    title: str
    before: Heard
    during: Heard
    after: Heard
    memory: str
    dropped: int  # bystanders that lost their connection
    sentences: Sequence[str]
    missed: Sequence[str]

    def show(self, console: Console) -> None:
        console.print(f"\n[bold]{self.title}[/bold]")
        for words in self.sentences:
            console.print(f"  {words}")
        console.print(f"  others before: {self.before}")
        console.print(f"  meanwhile:     {self.during}")
        console.print(f"  {SETTLE_SECONDS:.0f} s after:     {self.after}")
        for words in self.missed:
            console.print(f"  [bold]not as it has to be:[/bold] {words}")
        console.print(f"  memory, MiB, before → at most: {self.memory}")


async def overload(names: Sequence[str], quick: bool, folder: Path, console: Console) -> list[Result]:
    """Start an installation of channelbox, run the scenarios, and stop the installation in any case."""
    channelbox = Channelbox(folder / "channelbox", PEOPLE, web=2, workers=2)
    results = []
    try:
        await channelbox.start()
        site = Site(channelbox, quick)
        for name in names:
            results.append(await _one(site, name))
            results[-1].show(console)
    finally:
        await channelbox.stop()
    return results


async def _one(site: Site, name: str) -> Result:
    scenario = SCENARIOS[name]
    async with bystanders(site.address, room_of(name)) as others, watched(site.processes) as memory:
        await asyncio.sleep(SETTLE_SECONDS)
        times = [time.perf_counter()]
        await asyncio.sleep(CALM_SECONDS)
        times.append(time.perf_counter())
        outcome = await scenario.run(site)
        times.append(time.perf_counter())
        await asyncio.sleep(SETTLE_SECONDS)
        times.append(time.perf_counter())
        await asyncio.sleep(CALM_SECONDS)
        times.append(time.perf_counter())
        await asyncio.sleep(SETTLE_SECONDS)
        await others.stop()
        during = others.between(times[1], times[2])
        words = f"99 % of what others said took up to {during.p99_ms:.0f} ms, not {MAX_P99_MS:.0f}"
        outcome.expect(during.p99_ms <= MAX_P99_MS, words)
        outcome.expect(not during.unheard, f"{during.unheard} of the others' messages were not heard by all")
        return Result(
            name,
            scenario.TITLE,
            others.between(times[0], times[1]),
            during,
            others.between(times[3], times[4]),
            str(memory),
            others.dropped,
            outcome.sentences,
            [*outcome.missed, *([f"{others.dropped} of the others lost their connection"] if others.dropped else [])],
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the time, a fifth of the people")
    parser.add_argument("scenario", nargs="*", help=f"some of {', '.join(SCENARIOS)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.scenario) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    console = Console(highlight=False)
    this = machine.describe(quick=options.quick)
    console.print(
        f"{SIZE} others talk in a room of their own, {1 / INTERVAL_SECONDS:.0f} messages a second; how long these take "
        "to reach the last of them: median / 99 % / worst"
    )
    with workspace("overload") as (folder, runner):
        results = runner.run(overload(options.scenario or list(SCENARIOS), options.quick, folder, console))
    file = ROOT / "build" / "overload.json"
    content = {"machine": this, "scenarios": [_record(each) for each in results]}
    file.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"\n{file.relative_to(ROOT)}")
    if any(each.missed for each in results):
        raise SystemExit(1)


def _record(result: Result) -> dict[str, object]:
    spans = {
        name: vars(heard)
        for name, heard in (("before", result.before), ("during", result.during), ("after", result.after))
    }
    return {
        "scenario": result.name,
        "title": result.title,
        **spans,
        "memory_mb": result.memory,
        "dropped": result.dropped,
        "told": list(result.sentences),
        "missed": list(result.missed),
    }


if __name__ == "__main__":
    main()
