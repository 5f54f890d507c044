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
from bench.overload.bystanders import EVERY, SIZE, Heard, bystanders, room_of
from bench.overload.memory import watched
from bench.overload.scenarios import SCENARIOS
from bench.overload.site import Site
from bench.peers.channelbox import Channelbox
from bench.workshop import workshop

ROOT = Path(__file__).resolve().parents[2]
CALM = 6.0  # s before and after
SETTLE = 2.0  # s after it, that do not count
P99_MS = 150.0  # that others may wait meanwhile, in any scenario
PEOPLE = 1000


@dataclass(frozen=True)
class Told:
    """What a scenario showed."""

    name: str
    title: str
    before: Heard
    during: Heard
    after: Heard
    memory: str
    dropped: int  # bystanders who lost their connection
    sentences: Sequence[str]
    missed: Sequence[str]

    def show(self, console: Console) -> None:
        console.print(f"\n[bold]{self.title}[/bold]")
        for words in self.sentences:
            console.print(f"  {words}")
        console.print(f"  others before: {self.before}")
        console.print(f"  meanwhile:     {self.during}")
        console.print(f"  {SETTLE:.0f} s after:     {self.after}")
        for words in self.missed:
            console.print(f"  [bold]not as it has to be:[/bold] {words}")
        console.print(f"  memory, MiB, before → at most: {self.memory}")


async def overload(names: Sequence[str], quick: bool, folder: Path, console: Console) -> list[Told]:
    """Starts a channelbox, goes through the scenarios and ends it, whatever happens."""
    channelbox = Channelbox(folder / "channelbox", PEOPLE, web=2, workers=2)
    told = []
    try:
        await channelbox.start()
        site = Site(channelbox, quick)
        for name in names:
            told.append(await _one(site, name))
            told[-1].show(console)
    finally:
        await channelbox.stop()
    return told


async def _one(site: Site, name: str) -> Told:
    scenario = SCENARIOS[name]
    async with bystanders(site.address, room_of(name)) as others, watched(site.processes) as memory:
        await asyncio.sleep(SETTLE)
        times = [time.perf_counter()]
        await asyncio.sleep(CALM)
        times.append(time.perf_counter())
        outcome = await scenario.run(site)
        times.append(time.perf_counter())
        await asyncio.sleep(SETTLE)
        times.append(time.perf_counter())
        await asyncio.sleep(CALM)
        times.append(time.perf_counter())
        await asyncio.sleep(SETTLE)
        await others.stop()
        during = others.between(times[1], times[2])
        words = f"99 % of what others said took up to {during.p99_ms:.0f} ms, not {P99_MS:.0f}"
        outcome.expect(during.p99_ms <= P99_MS, words)
        outcome.expect(not during.unheard, f"{during.unheard} of the others' messages were not heard by all")
        return Told(
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
    words = parser.parse_args()
    if unknown := set(words.scenario) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    console = Console(highlight=False)
    this = machine.describe(quick=words.quick)
    console.print(
        f"{SIZE} others talk in a room of their own, {1 / EVERY:.0f} messages a second; how long these take to reach "
        "the last of them: median / 99 % / worst"
    )
    with workshop("overload") as (folder, runner):
        told = runner.run(overload(words.scenario or list(SCENARIOS), words.quick, folder, console))
    file = ROOT / "build" / "overload.json"
    content = {"machine": this, "scenarios": [_record(each) for each in told]}
    file.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"\n{file.relative_to(ROOT)}")
    if any(each.missed for each in told):
        raise SystemExit(1)


def _record(told: Told) -> dict[str, object]:
    spans = {
        name: vars(heard) for name, heard in (("before", told.before), ("during", told.during), ("after", told.after))
    }
    return {
        "scenario": told.name,
        "title": told.title,
        **spans,
        "memory_mb": told.memory,
        "dropped": told.dropped,
        "told": list(told.sentences),
        "missed": list(told.missed),
    }


if __name__ == "__main__":
    main()
