"""Watches the memory of processes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

POLL_SECONDS = 0.2
PAGE = 4096


def resident_mb(pid: int) -> float:
    """Return the resident set size in MiB; 0 if the process has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20
    except OSError:
        return 0.0


class Memory:
    """The memory of each process at the start, and its highest value since then, in MiB."""

    def __init__(self, processes: Callable[[], Mapping[str, int]]) -> None:
        self._processes = processes
        self.before = {name: resident_mb(pid) for name, pid in processes().items()}
        self.most = dict(self.before)

    async def watch(self) -> None:
        while True:
            for name, pid in self._processes().items():
                self.most[name] = max(self.most.get(name, 0.0), resident_mb(pid))
            await asyncio.sleep(POLL_SECONDS)

    def __str__(self) -> str:
        tiers: dict[str, tuple[float, float]] = {}
        for name, most in self.most.items():
            tier = name.partition("@")[0]
            before = self.before.get(name, 0.0)
            tiers[tier] = max(tiers.get(tier, (0.0, 0.0)), (before, most), key=lambda pair: pair[1])
        return ", ".join(f"{tier} {before:.0f} → {most:.0f}" for tier, (before, most) in tiers.items())


@asynccontextmanager
async def watched(processes: Callable[[], Mapping[str, int]]) -> AsyncIterator[Memory]:
    memory = Memory(processes)
    task = asyncio.create_task(memory.watch())
    try:
        yield memory
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
