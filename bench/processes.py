"""What process trees cost, from /proc."""

import os
from collections.abc import Iterable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may hold blanks: state is the first. Raises OSError when it is gone."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _parents() -> dict[int, list[int]]:
    """The processes that there are, by their parents."""
    found: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                found.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except OSError:
                continue
    return found


def children(pid: int) -> list[int]:
    """What this process has started and still has."""
    return sorted(_parents().get(pid, []))


def command(pid: int) -> str:
    """A process's command line; empty when it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def tree(roots: Iterable[int]) -> set[int]:
    """These processes and all their descendants that are alive."""
    parents = _parents()
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += parents.get(pid, [])
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """Processor time that these trees have used, user and system, those descendants included that have ended."""
    ticks = 0
    for pid in tree(roots):
        try:
            ticks += sum(map(int, _stat(pid)[11:15]))  # utime stime cutime cstime
        except OSError:
            continue
    return ticks / TICK


def memory_kb(roots: Iterable[int]) -> int:
    """Proportional set size of these trees, KiB: what several processes share is counted once."""
    total = 0
    for pid in tree(roots):
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total
