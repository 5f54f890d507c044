"""`make test-faults`: a real installation, faults from a seed, and the verdict.

Exits with 1 when a promise is broken.
"""

import argparse
import asyncio
import fcntl
import random
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from tests.faults import report
from tests.faults.cluster import ClusterTarget
from tests.faults.faults import draw, everything
from tests.faults.local import LocalTarget
from tests.faults.run import Crowd, examine

DATABASES = ("sqlite", "postgresql")
BUILD = Path(__file__).parents[2] / "build"
SECONDS, MESSAGES = 170.0, 20_000
LONG_MESSAGES = 100_000
MAX_SECONDS = {False: 600, True: 3600}  # by whether the run is long


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--long", action="store_true", help="100,000 messages through all faults")
    parser.add_argument("--database", choices=DATABASES, help="unless given, the seed says which")
    parser.add_argument("--target", choices=("local", "cluster"), default="local", help="cluster: the demo's nodes")
    parser.add_argument("--redis-hosts", type=int, choices=(1, 2), default=1, help="of the local target")
    parser.add_argument("--broken", default="", help="a build that is broken on purpose: the verdict must say so")
    parser.add_argument("--only", default="", help="faults whose names have this in them, each once")
    parser.add_argument("--messages", type=int, default=0)
    return parser.parse_args()


async def main() -> int:
    if task := asyncio.current_task():  # so that SIGTERM also stops and unmounts everything
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    options = arguments()
    console = Console(width=150)
    rng = random.Random(options.seed)
    drawn = rng.choice(DATABASES)
    cluster = options.target == "cluster"
    database = "postgresql" if cluster else options.database or drawn
    place = "TARGET=cluster" if cluster else f"DATABASE={database}"
    if options.redis_hosts > 1:
        place += f" REDIS_HOSTS={options.redis_hosts}"
    folder = BUILD / "faults"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        console.print(f"Another run writes into {folder}: wait for its end, or use another checkout.")
        return 1
    started = time.monotonic()
    console.print(f"Seed {options.seed} (make test-faults SEED={options.seed} {place})")

    def print_line(line: str) -> None:
        console.print(f"{time.monotonic() - started:6.1f} s  {line}", highlight=False)

    target: ClusterTarget | LocalTarget
    if cluster:
        target = ClusterTarget(folder, database, options.broken)
    else:
        target = LocalTarget(folder, database, options.broken, options.redis_hosts)
    async with asyncio.timeout(MAX_SECONDS[options.long]), target:
        faults = target.faults()
        if options.only:
            chosen = [fault for fault in faults if options.only in fault.name]
        else:
            chosen = everything(faults, rng) if options.long else draw(faults, rng, SECONDS)
        messages = options.messages or (LONG_MESSAGES if options.long else MESSAGES)
        seconds = sum(fault.seconds for fault in chosen)
        rate = min(200.0, messages / seconds)
        for sentence in target.missing():
            print_line(f"Not possible here: {sentence}")
        print_line(f"{len(chosen)} faults, {messages} messages at {rate:.0f} a second, about {seconds:.0f} s")
        verdict = await examine(
            folder, target, Crowd(3, 4, 2, rate, options.redis_hosts), chosen, messages, rng, print_line
        )
    print_line("The verdict:")
    report.show(verdict, chosen, console)
    report.write(BUILD / "faults.json", verdict, chosen, seed=options.seed, target=options.target, database=database)
    return 0 if report.passed(verdict, chosen) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
