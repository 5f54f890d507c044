"""The interface of a server under comparison."""

import json
import socket
from pathlib import Path
from typing import Protocol

from tests.support.servers import Server

from bench.generator import HOST, Address


class Peer(Protocol):
    """A server with rooms, including all processes that it needs."""

    name: str

    async def start(self) -> None:
        """Start the server. Returns when it accepts connections."""

    async def restart(self) -> None:
        """Restart the processes that hold connections, so that they have no memory left over from earlier clients."""

    async def stop(self) -> None:
        """Stop all of its processes."""

    @property
    def address(self) -> Address: ...

    @property
    def processes(self) -> list[int]:
        """Ids of its processes except Redis. The server's cost is what these and their descendants use."""


class Listening(Server):
    """A server process that is ready when its port accepts connections."""

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


def tutorial_message(text: str) -> str:
    """Return a text as the client of the Channels tutorial sends it. channelbox accepts this form too."""
    return json.dumps({"message": text})
