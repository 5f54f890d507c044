"""`make test`: every stage, the fast ones first; the first that fails ends it. Says how long each took.

Where this machine cannot make nodes, what needs them is named as not run, with the reason; with CI=true that is a
failure.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NODES = [sys.executable, "molecule/shared/node", "check"]


@dataclass(frozen=True)
class Stage:
    name: str
    command: list[str]
    nodes: bool = False


STAGES = [
    Stage("lint", ["make", "lint"]),
    Stage("application on SQLite", ["make", "test-app", "DATABASE=sqlite"]),
    Stage("application on PostgreSQL", ["make", "test-app", "DATABASE=postgresql"]),
    Stage("pages in Chromium", ["make", "test-browser"]),
    Stage("the node tool", ["make", "test-nodes"], nodes=True),
    Stage("packages and lintian", ["make", "deb-lint"], nodes=True),
    Stage("one node", ["make", "molecule", "SCENARIO=single"], nodes=True),
    Stage("preflight", ["make", "molecule", "SCENARIO=preflight"], nodes=True),
    Stage("the cluster", ["make", "molecule", "SCENARIO=cluster"], nodes=True),
]


def main() -> int:
    possible = subprocess.run(NODES, cwd=ROOT, capture_output=True, text=True)
    no_nodes = (possible.stdout + possible.stderr).strip() if possible.returncode else ""
    strict = os.environ.get("CI") == "true"
    results: list[tuple[str, str]] = []
    passed = failed = 0
    for stage in STAGES:
        if stage.nodes and no_nodes:
            results.append((stage.name, "NOT RUN: this machine cannot make nodes"))
            failed += strict
            continue
        print(f"\n=== {stage.name}: {' '.join(stage.command)}", flush=True)
        started = time.monotonic()
        status = subprocess.run([*stage.command, "--no-print-directory"], cwd=ROOT).returncode
        took = f"{time.monotonic() - started:6.0f} s"
        if status:
            failed += 1
            results.append((stage.name, f"{took}  FAILED"))
            break
        passed += 1
        results.append((stage.name, took))
    print("\n=== make test")
    for name, result in results:
        print(f"  {name:26} {result}")
    if no_nodes:
        print(f"\nWhat needs nodes was not run. {no_nodes}")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
