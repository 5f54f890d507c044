"""What process trees cost."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from bench.processes import cpu_seconds, memory_kb, tree

# Works for 0.4 s in a child that ends, says so, then waits with a child that does not end.
WORK = """
import subprocess, sys, time
burn = "import time\\nwhile time.process_time() < 0.4: pass"
subprocess.run([sys.executable, "-c", burn])
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
child.wait()
"""


@pytest.fixture
def worked() -> Iterator[tuple[int, int]]:
    """A process and its child."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WORK], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.communicate("")


def test_a_tree_has_the_descendants(worked: tuple[int, int]) -> None:
    assert tree([worked[0]]) == set(worked)
    assert os.getpid() in tree([os.getppid()])


def test_work_of_a_descendant_that_has_ended_counts(worked: tuple[int, int]) -> None:
    # /proc rounds user and system time down to ticks, each for each process.
    assert 0.3 <= cpu_seconds([worked[0]]) < 3


def test_memory_is_that_of_all(worked: tuple[int, int]) -> None:
    assert memory_kb([worked[0]]) > memory_kb([worked[1]]) > 0
