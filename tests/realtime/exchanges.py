"""Records the pipelines that are sent to Redis: their commands, and their times."""

import asyncio
from typing import Any

import pytest
from redis.asyncio.client import Pipeline

Command = tuple[Any, ...]


class Exchanges:
    """The commands of each pipeline that was sent, and its time on the event loop's clock."""

    def __init__(self) -> None:
        self.commands: list[list[Command]] = []
        self.times: list[float] = []

    def record(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Start recording."""
        execute = Pipeline.execute

        async def recorded(pipeline: Pipeline, raise_on_error: bool = True) -> list[Any]:
            self.commands.append([command for command, _ in pipeline.command_stack])
            self.times.append(asyncio.get_running_loop().time())
            return await execute(pipeline, raise_on_error)

        monkeypatch.setattr(Pipeline, "execute", recorded)

    def clear(self) -> None:
        """Drop what was recorded so far."""
        self.commands.clear()
        self.times.clear()

    def assert_bounded(self, commands: int) -> None:
        """Assert that something was sent, and that no pipeline had more than `commands` commands."""
        sizes = [len(sent) for sent in self.commands]
        assert 0 < max(sizes) <= commands, f"commands in each: {sizes}"
