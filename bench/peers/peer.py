"""What every peer has."""

import json
import socket
from pathlib import Path
from typing import Protocol

from tests.support.servers import Server

from bench.generator import HOST, Address


class Peer(Protocol):
    """A server with rooms, and all that belongs to it."""

    name: str

    async def start(self) -> None:
        """Returns when it takes connections."""

    async def renew(self) -> None:
        """Has the processes that hold connections begin anew, as if nobody had ever come."""

    async def stop(self) -> None:
        """Ends all of its processes."""

    @property
    def address(self) -> Address: ...

    @property
    def processes(self) -> list[int]:
        """The ids of its processes, Redis left out: what they use, with their descendants, is the server's cost."""


class Listening(Server):
    """A process that is ready when its port takes connections."""

    def __init__(self, folder: Path, command: list[str], port: int, **options: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        super().__init__(folder, command, **options)  # type: ignore[arg-type]

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


def as_the_tutorial(text: str) -> str:
    """What the tutorial's client sends, and any of channelbox' may."""
    return json.dumps({"message": text})
