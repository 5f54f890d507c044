"""A temporary folder and an event loop for the servers under test."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop


@contextmanager
def workspace(name: str) -> Iterator[tuple[Path, asyncio.Runner]]:
    with (
        tempfile.TemporaryDirectory(prefix=f"{name}-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        Path(folder).chmod(0o755)  # for PostgreSQL, which runs as another user
        yield Path(folder), runner
