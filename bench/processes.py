"""Reads the CPU time and memory of process trees from /proc."""

import os
from collections.abc import Iterable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def _stat(pid: int) -> list[str]:
    """Return the fields after the process name, which may contain blanks; the first is the state.

    Raises OSError if the process has ended.
    """
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _parents() -> dict[int, list[int]]:
    """Return the ids of all processes, by the id of their parent."""
    found: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                found.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except OSError:
                continue
    return found


def children(pid: int) -> list[int]:
    """Return the ids of the children of a process."""
    return sorted(_parents().get(pid, []))


def command(pid: int) -> str:
    """Return the command line of a process; empty if it has ended."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def tree(roots: Iterable[int]) -> set[int]:
    """Return the ids of these processes and of all their descendants that are alive."""
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
    """Return the CPU time of these process trees in seconds, user and system, including descendants that have ended."""
    ticks = 0
    for pid in tree(roots):
        try:
            ticks += sum(map(int, _stat(pid)[11:15]))  # utime stime cutime cstime
        except OSError:
            continue
    return ticks / TICK


def memory_kb(roots: Iterable[int]) -> int:
    """Return the proportional set size of these process trees in KiB, which counts shared memory once."""
    total = 0
    for pid in tree(roots):
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total
