"""Where servers are started: a folder of their own and an event loop, both gone afterwards."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop


@contextmanager
def workshop(name: str) -> Iterator[tuple[Path, asyncio.Runner]]:
    with (
        tempfile.TemporaryDirectory(prefix=f"{name}-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own
        yield Path(folder), runner
