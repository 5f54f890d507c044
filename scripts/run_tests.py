"""Run every stage of `make test`, the fast ones first, and stop after the first group with a failure.

The stages of a group run side by side, as most of their time is waiting; their output is printed one after the other.
A stage that needs nodes is named as not run, with the reason, on a machine that cannot make them; with CI=true that is
a failure.

`make test-long` runs the stages that only widen these: other combinations of release and database, a slow node, and
more faults. Of the former two, `make test` runs one each, by the date, so that each has its turn. `--record` writes the
table of stages and seconds into CONTRIBUTING.md.
"""

import argparse
import contextlib
import datetime
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NODES = [sys.executable, "molecule/shared/node", "check"]


@dataclass(frozen=True)
class Stage:
    name: str
    command: list[str]
    nodes: bool = False


# All application tests run with the programs of Debian 12 on SQLite, and with those of Debian 13 on PostgreSQL. The
# other two combinations repeat these, so a part of one is drawn, and only of tests that depend on the database.
WITH_DATABASE = {
    "the chat": "chat postgresql",
    "people, commands and pages": "accounts cli dashboard work test_checks.py test_languages.py",
    "whole installations": (
        "integration/test_crowd.py integration/test_dashboard.py integration/test_database_outages.py "
        "integration/test_doctor.py integration/test_frozen_database.py integration/test_processes.py "
        "integration/test_protocol.py integration/test_redis_outages.py integration/test_restore.py "
        "integration/test_run.py integration/test_storm.py"
    ),
}
WITHOUT_DATABASE = (
    "ansible bench browser clients faults monitoring nginx packaging realtime integration/test_hostile.py "
    "integration/test_hostile_floods.py integration/test_hostile_pages.py integration/test_memory.py test_docs.py "
    "test_http_admission.py test_interfaces.py test_lint_javascript.py test_logs.py test_one_address.py test_prose.py "
    "test_sd_notify.py test_server.py test_settings.py"
)


def unassigned_tests() -> list[str]:
    """Return the test files that are in none or in several of the lists above, and the names that do not exist."""
    lists = " ".join([*WITH_DATABASE.values(), WITHOUT_DATABASE]).split()
    wrong = [name for name in lists if not (ROOT / "tests" / name).exists()]
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = str(path.relative_to(ROOT / "tests"))
        if sum(name == listed or name.startswith(f"{listed}/") for listed in lists) != 1:
            wrong.append(name)
    return wrong


PART_OF_LONG = "a part of `make test-long`"
START, END = "<!-- stages -->\n", "<!-- /stages -->\n"

STAGES = [
    [
        Stage("lint", ["make", "lint"]),
        Stage("clients", ["make", "test-clients"]),
        Stage("packages and lintian", ["make", "deb-lint"], nodes=True),
    ],
    [
        Stage("application on SQLite", ["make", "test-app", "DATABASE=sqlite", "JOBS=2"]),
        Stage("application on trixie", ["make", "test-trixie", "JOBS=2"], nodes=True),
    ],
    [Stage("faults", ["make", "test-faults"]), Stage("pages in Chromium", ["make", "test-browser", "JOBS=2"])],
    [
        Stage("faults of two Redis hosts", ["make", "test-faults", "REDIS_HOSTS=2", "ONLY=Redis", "DATABASE=sqlite"]),
        Stage("the node tool", ["make", "test-nodes"], nodes=True),
        Stage("preflight", ["make", "molecule", "SCENARIO=preflight"], nodes=True),
    ],
    # The cluster waits for half of its time, and a slow node for most. The others run one after the other beside them.
    [
        Stage("the cluster", ["make", "molecule", "SCENARIO=cluster"], nodes=True),
        Stage("one node, bookworm and trixie", ["make", "molecule", "SCENARIO=single"], nodes=True),
    ],
]
APPLICATION, NODE = 1, 4  # groups of STAGES

DRAWN = [
    Stage(
        f"{release}, {database}: {part}",
        [
            "make",
            target,
            f"DATABASE={database}",
            "JOBS=2",
            "TESTS=" + " ".join(f"tests/{name}" for name in names.split()),
        ],
        nodes,
    )
    for release, database, target, nodes in (
        ("bookworm", "postgresql", "test-app", False),
        ("trixie", "sqlite", "test-trixie", True),
    )
    for part, names in WITH_DATABASE.items()
]
# How patient a slow node is depends on channelbox, hardly on Debian.
SLOW_NODE = [
    Stage(f"a slow node, {release}", ["make", "molecule", "SCENARIO=slow", f"RELEASE_OF_SINGLE={release}"], nodes=True)
    for release in ("bookworm", "trixie")
]
LONG = [
    *DRAWN,
    *SLOW_NODE,
    *(
        Stage(f"{what}, {database}", ["make", "test-faults", argument, f"DATABASE={database}"])
        for what, argument in (("faults of two Redis hosts", "REDIS_HOSTS=2"), ("100,000 messages", "LONG=1"))
        for database in ("sqlite", "postgresql")
    ),
]


@dataclass(frozen=True)
class Result:
    name: str
    seconds: float
    status: int

    def __str__(self) -> str:
        return f"{self.name:46} {self.seconds:6.0f} s{'  FAILED' if self.status else ''}"


def run(stages: Sequence[Stage]) -> list[Result]:
    """Run stages in parallel and wait for all. The first prints as it runs, the others after it has ended."""
    for stage in stages:
        print(f"\n=== {stage.name}: {' '.join(stage.command)}", flush=True)
    started = time.monotonic()
    results = []
    with contextlib.ExitStack() as stack:
        outputs = [None, *(stack.enter_context(tempfile.TemporaryFile("w+")) for _ in stages[1:])]
        running = [
            subprocess.Popen(
                [*stage.command, "--no-print-directory"],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
            )
            for stage, output in zip(stages, outputs, strict=True)
        ]

        def ended(process: subprocess.Popen[bytes]) -> tuple[float, int]:
            status = process.wait()
            return time.monotonic() - started, status

        waiting = stack.enter_context(ThreadPoolExecutor(len(stages))).map(ended, running)
        for stage, (seconds, status), output in zip(stages, waiting, outputs, strict=True):
            results.append(Result(stage.name, seconds, status))
            if output:
                output.seek(0)
                print(f"\n=== {stage.name}\n{output.read()}", flush=True)
    return results


def record(groups: Sequence[Sequence[Result]], total: float) -> None:
    """Write the table of stages into CONTRIBUTING.md."""
    drawn = {stage.name for stage in (*DRAWN, *SLOW_NODE)}
    rows = ["| stages, side by side | seconds |", "|---|---|"]
    for group in groups:
        names = " · ".join(PART_OF_LONG if result.name in drawn else result.name for result in group)
        rows.append(f"| {names} | {' · '.join(f'{result.seconds:.0f}' for result in group)} |")
    page = ROOT / "CONTRIBUTING.md"
    before, _, rest = page.read_text().partition(START)
    rows.append(f"| **all** | **{total:.0f}** |")
    page.write_text("".join((before, START, "\n".join(rows), "\n", END, rest.partition(END)[2])))


def with_drawn(date: datetime.date) -> list[list[Stage]]:
    """Return the groups of `make test`, with the stages of `make test-long` that the date draws."""
    drawn = {
        group: stages[date.toordinal() % len(stages)] for group, stages in ((APPLICATION, DRAWN), (NODE, SLOW_NODE))
    }
    names = " · ".join(stage.name for stage in drawn.values())
    print(f"Parts of make test-long in this run (DRAW={date}): {names}")
    return [[*group, drawn[number]] if number in drawn else group for number, group in enumerate(STAGES)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="run all that only widens, one stage after the other")
    parser.add_argument(
        "--draw",
        type=datetime.date.fromisoformat,
        metavar="YYYY-MM-DD",
        default=datetime.datetime.now(datetime.UTC).date(),
        help="the date that draws the parts of make test-long (default: today)",
    )
    parser.add_argument("--record", action="store_true", help="write the table of stages into CONTRIBUTING.md")
    options = parser.parse_args()
    if options.long and options.record:
        parser.error("--record is for make test, not for make test-long")
    if wrong := unassigned_tests():
        print(f"Each test belongs in one list of scripts/run_tests.py: {', '.join(wrong)}", file=sys.stderr)
        return 1
    possible = subprocess.run(NODES, cwd=ROOT, capture_output=True, text=True)
    no_nodes = (possible.stdout + possible.stderr).strip() if possible.returncode else ""
    strict = os.environ.get("CI") == "true"
    started = time.monotonic()
    table: list[str] = []
    groups: list[list[Result]] = []
    passed = failed = 0
    for group in [[stage] for stage in LONG] if options.long else with_drawn(options.draw):
        stages = [stage for stage in group if not (no_nodes and stage.nodes)]
        lacking = [stage for stage in group if stage not in stages]
        table += [f"{stage.name:46} NOT RUN: this machine cannot make nodes" for stage in lacking]
        failed += strict * len(lacking)
        results = run(stages) if stages else []
        groups.append(results)
        table += map(str, results)
        broken = sum(result.status != 0 for result in results)
        failed += broken
        passed += len(results) - broken
        if broken and not options.long:
            break
    total = time.monotonic() - started
    print(f"\n=== make test{'-long' if options.long else ''}")
    for line in table:
        print(f"  {line}")
    if no_nodes:
        print(f"\nWhat needs nodes was not run. {no_nodes}")
    print(f"{passed} passed, {failed} failed in {total:.0f} s", flush=True)
    if options.record and not failed and not no_nodes:
        record(groups, total)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
