"""CPU time and memory of process trees."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from bench.processes import cpu_seconds, memory_kb, tree

# Uses 0.4 s of CPU time in a child that ends, prints the ID of a second child, and waits together with it.
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
def process_tree() -> Iterator[tuple[int, int]]:
    """The IDs of a process and its child."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WORK], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.communicate("")


def test_a_tree_contains_all_descendants(process_tree: tuple[int, int]) -> None:
    assert tree([process_tree[0]]) == set(process_tree)
    assert os.getpid() in tree([os.getppid()])


def test_cpu_time_of_ended_descendants_counts(process_tree: tuple[int, int]) -> None:
    # /proc rounds the user and the system time of each process down to ticks.
    assert 0.3 <= cpu_seconds([process_tree[0]]) < 3


def test_memory_includes_all_descendants(process_tree: tuple[int, int]) -> None:
    assert memory_kb([process_tree[0]]) > memory_kb([process_tree[1]]) > 0
