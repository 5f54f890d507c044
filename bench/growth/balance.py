"""Measures how evenly the kernel distributes connections over the processes that share a socket."""

from collections.abc import Sequence

from bench.processes import PROC


def sockets(pid: int) -> int:
    """Return the number of open sockets of a process."""
    count = 0
    for entry in (PROC / str(pid) / "fd").iterdir():
        try:
            count += entry.readlink().name.startswith("socket:")
        except OSError:
            continue
    return count


def balance(pids: Sequence[int]) -> float:
    """Return the largest number of sockets of a process, divided by the mean; 1 is even."""
    counts = [sockets(pid) for pid in pids]
    return max(counts) * len(counts) / sum(counts)
