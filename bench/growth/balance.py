"""How evenly the kernel spreads connections over the processes that share a socket."""

from collections.abc import Sequence

from bench.processes import PROC


def sockets(pid: int) -> int:
    """Open sockets of a process."""
    count = 0
    for entry in (PROC / str(pid) / "fd").iterdir():
        try:
            count += entry.readlink().name.startswith("socket:")
        except OSError:
            continue
    return count


def balance(pids: Sequence[int]) -> float:
    """The sockets of the fullest process, in means; 1 is even."""
    counts = [sockets(pid) for pid in pids]
    return max(counts) * len(counts) / sum(counts)
