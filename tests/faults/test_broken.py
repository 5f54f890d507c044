"""The fault checker detects builds that are broken on purpose, and names what is wrong with them.

Not part of the application's tests: `make test-faults` runs this after the faults themselves.
"""

import random
from pathlib import Path

import pytest
from tests.faults.broken import BREAKAGES
from tests.faults.local import LocalTarget
from tests.faults.run import Crowd, examine
from tests.faults.verdict import DOUBLED, GAP, LOST, NUMBER

BEFORE = "a worker killed before COMMIT"
BETWEEN = "a worker killed between COMMIT and PUBLISH"
BROKEN_TIMEOUT_SECONDS = 6.0  # for a broken build, in which some events never arrive
TIMEOUT_SECONDS = 40.0  # for an intact build

EXPECTED = {
    "acknowledge-first": (BEFORE, {LOST, NUMBER}),
    "no-sequence": (BETWEEN, {GAP}),
    "no-dedup": (BETWEEN, {DOUBLED}),
    "": (BETWEEN, set()),
}


async def findings(folder: Path, broken: str, fault: str, database: str) -> set[str]:
    async with LocalTarget(folder, database, broken) as target:
        faults = [each for each in target.faults() if each.name == fault] * 2
        timeout = BROKEN_TIMEOUT_SECONDS if broken else TIMEOUT_SECONDS
        crowd = Crowd(rooms=2, senders=5, readers=1, rate=40)
        verdict = await examine(folder, target, crowd, faults, 200, random.Random(4), print, timeout)
    return set(verdict.counts)


@pytest.mark.parametrize("broken", EXPECTED)
async def test_verdict_detects_each_broken_build(broken: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    fault, kinds = EXPECTED[broken]
    found = await findings(tmp_path, broken, fault, pytestconfig.getoption("--database"))
    assert kinds <= found
    assert broken or not found


def test_every_breakage_is_tried() -> None:
    assert set(EXPECTED) == {*BREAKAGES, ""}
