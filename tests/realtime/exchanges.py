"""What goes to Redis in pipelines: how much in each, and when."""

import asyncio
from typing import Any

import pytest
from redis.asyncio.client import Pipeline

Command = tuple[Any, ...]


class Exchanges:
    """The commands of each pipeline that was sent, and when on the loop's clock."""

    def __init__(self) -> None:
        self.commands: list[list[Command]] = []
        self.times: list[float] = []

    def record(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Record from now on."""
        execute = Pipeline.execute

        async def recorded(pipeline: Pipeline, raise_on_error: bool = True) -> list[Any]:
            self.commands.append([command for command, _ in pipeline.command_stack])
            self.times.append(asyncio.get_running_loop().time())
            return await execute(pipeline, raise_on_error)

        monkeypatch.setattr(Pipeline, "execute", recorded)

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self.commands.clear()
        self.times.clear()

    def assert_bounded(self, commands: int) -> None:
        """Something was sent, and no pipeline had more commands."""
        sizes = [len(sent) for sent in self.commands]
        assert 0 < max(sizes) <= commands, f"commands in each: {sizes}"
