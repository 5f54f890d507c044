"""Run every stage of `make test`, the fast ones first, and stop after the first group with a failure.

The stages of a group run side by side, as most of their time is waiting; their output is printed one after the other.
A stage that needs nodes is named as not run, with the reason, on a machine that cannot make them; with CI=true that is
a failure. `--record` writes the table of stages and seconds into CONTRIBUTING.md.
"""

import argparse
import contextlib
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


# All application tests run with the Python of Debian 12 on SQLite, and with that of Debian 13 on PostgreSQL. Debian 12
# with PostgreSQL runs only the tests that use a database.
WITHOUT_DATABASE = (
    "ansible bench clients faults monitoring nginx packaging realtime integration/test_hostile.py "
    "integration/test_hostile_floods.py integration/test_hostile_pages.py integration/test_memory.py test_docs.py "
    "test_http_admission.py test_interfaces.py test_logs.py test_one_address.py test_prose.py test_sd_notify.py "
    "test_server.py test_settings.py"
)
if gone := [name for name in WITHOUT_DATABASE.split() if not (ROOT / "tests" / name).exists()]:
    raise SystemExit(f"scripts/run_tests.py names tests that are not there: {', '.join(gone)}")
IGNORED = " ".join(f"--ignore tests/{name}" for name in WITHOUT_DATABASE.split())

START, END = "<!-- stages -->\n", "<!-- /stages -->\n"

STAGES = [
    [Stage("lint", ["make", "lint"]), Stage("clients", ["make", "test-clients"])],
    [
        Stage("application on SQLite", ["make", "test-app", "DATABASE=sqlite", "JOBS=2"]),
        Stage("application on PostgreSQL", ["make", "test-app", "DATABASE=postgresql", "JOBS=2", f"ARGS={IGNORED}"]),
        Stage("application on trixie", ["make", "test-trixie", "JOBS=2"], nodes=True),
    ],
    [Stage("faults", ["make", "test-faults"]), Stage("pages in Chromium", ["make", "test-browser", "JOBS=2"])],
    [
        Stage("faults of two Redis hosts", ["make", "test-faults", "REDIS_HOSTS=2", "ONLY=Redis", "DATABASE=sqlite"]),
        Stage("the node tool", ["make", "test-nodes"], nodes=True),
        Stage("packages and lintian", ["make", "deb-lint"], nodes=True),
    ],
    [
        *(
            Stage(f"one node, {release}", ["make", "molecule", "SCENARIO=single", f"RELEASE_OF_SINGLE={release}"], True)
            for release in ("bookworm", "trixie")
        ),
        Stage("preflight", ["make", "molecule", "SCENARIO=preflight"], nodes=True),
    ],
    [Stage("the cluster", ["make", "molecule", "SCENARIO=cluster"], nodes=True)],
]


@dataclass(frozen=True)
class Result:
    name: str
    seconds: float
    status: int

    def __str__(self) -> str:
        return f"{self.name:26} {self.seconds:6.0f} s{'  FAILED' if self.status else ''}"


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
    rows = ["| stages, side by side | seconds |", "|---|---|"]
    for group in groups:
        names = " · ".join(result.name for result in group)
        rows.append(f"| {names} | {' · '.join(f'{result.seconds:.0f}' for result in group)} |")
    page = ROOT / "CONTRIBUTING.md"
    before, _, rest = page.read_text().partition(START)
    rows.append(f"| **all** | **{total:.0f}** |")
    page.write_text("".join((before, START, "\n".join(rows), "\n", END, rest.partition(END)[2])))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the table of stages into CONTRIBUTING.md")
    options = parser.parse_args()
    possible = subprocess.run(NODES, cwd=ROOT, capture_output=True, text=True)
    no_nodes = (possible.stdout + possible.stderr).strip() if possible.returncode else ""
    strict = os.environ.get("CI") == "true"
    started = time.monotonic()
    table: list[str] = []
    groups: list[list[Result]] = []
    passed = failed = 0
    for group in STAGES:
        stages = [stage for stage in group if not (no_nodes and stage.nodes)]
        lacking = [stage for stage in group if stage not in stages]
        table += [f"{stage.name:26} NOT RUN: this machine cannot make nodes" for stage in lacking]
        failed += strict * len(lacking)
        results = run(stages) if stages else []
        groups.append(results)
        table += map(str, results)
        broken = sum(result.status != 0 for result in results)
        failed += broken
        passed += len(results) - broken
        if broken:
            break
    total = time.monotonic() - started
    print("\n=== make test")
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
