"""A real installation for tests, and a client as simple as that of the Channels tutorial."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from channelbox.cli.local_installation import LocalInstallation
from channelbox.cli.supervisor import SupervisedProcess

FRAME_SECONDS = 15


class Person:
    """One open connection, which keeps all frames that it receives."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, Any]] = []
        self._more = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def say(self, text: str, **fields: Any) -> None:
        """Send a message as the tutorial's client does, without an id unless one is given."""
        await self.send({"message": text, **fields})

    async def send(self, content: object) -> None:
        await self.connection.send(json.dumps(content))

    async def first(self, **fields: Any) -> dict[str, Any]:
        """Wait for the first frame with these fields, and return it."""
        matching: list[dict[str, Any]] = []

        def found_any() -> bool:
            matching[:] = [frame for frame in self.frames if fields.items() <= frame.items()]
            return bool(matching)

        await self.until(found_any)
        return matching[0]

    async def until(self, condition: Callable[[], bool], seconds: float = FRAME_SECONDS) -> None:
        """Wait until the condition holds, checked at each frame. Raises ConnectionError if it closes first."""
        async with asyncio.timeout(seconds), self._more:
            await self._more.wait_for(lambda: condition() or self._reader.done())
        if not condition():
            raise ConnectionError(f"closed with {self.connection.close_code} {self.connection.close_reason}")

    async def wait_for(self, *texts: str, seconds: float = FRAME_SECONDS) -> None:
        """Wait until messages with all of these texts have been received."""
        try:
            await self.until(lambda: set(texts) <= set(self.texts), seconds)
        except TimeoutError:
            lacking = [text for text in texts if text not in self.texts]
            raise AssertionError(f"{len(lacking)} not received: {lacking[:5]}. Errors: {self.errors[:5]}") from None

    async def closed(self, seconds: float = FRAME_SECONDS) -> int | None:
        """Wait until the connection is closed, and return the close code."""
        async with asyncio.timeout(seconds):
            await self.connection.wait_closed()
        return self.connection.close_code

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame.get("type") == "message"]

    @property
    def texts(self) -> list[str]:
        return [frame["message"] for frame in self.messages]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if "error" in frame]

    @property
    def seq(self) -> int:
        """The newest number received."""
        return self.messages[-1]["seq"] if self.messages else 0

    def check_sequence(self) -> None:
        """Raise AssertionError for a gap, a duplicate or a wrong order."""
        numbers = [message["seq"] for message in self.messages]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True

    async def _read(self) -> None:
        try:
            async for text in self.connection:
                async with self._more:
                    self.frames.append(json.loads(text))
                    self._more.notify_all()
        except ConnectionClosed:
            pass
        finally:
            async with self._more:
                self._more.notify_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()
        await self._reader


class Installation(LocalInstallation):
    """`LocalInstallation` with methods for tests."""

    async def enter(self, room: str = "hello", after: int | None = None, **options: Any) -> Person:
        """Connect a client to a room and wait for its welcome. `options` are those of websockets' `connect`."""
        person = await self.open(_address(room, after), **options)
        await person.first(type="welcome")
        return person

    async def open(self, path: str, **options: Any) -> Person:
        """Connect to a path without waiting for a frame."""
        url = self.url.replace("http://", "ws://") + path
        return Person(await connect(url, **{"proxy": None, "compression": None, "max_size": None, **options}))

    async def enter_at(
        self, child: SupervisedProcess, room: str = "hello", after: int | None = None, **options: Any
    ) -> Person:
        """Connect as `enter` does, to this web process: the others are frozen for a moment so that they accept nothing.

        The moment is short, because a process may be frozen while it holds a lock of the database.
        """
        others = [each for each in self.web if each is not child]
        for each in others:
            each.signal(signal.SIGSTOP)
        try:
            person = await self.open(_address(room, after), **options)
        finally:
            for each in others:
                each.signal(signal.SIGCONT)
        await person.first(type="welcome")
        return person

    async def handshake(self, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a WebSocket without a library, so that bytes go out unchanged and nothing is answered automatically."""
        host = self.url.removeprefix("http://")
        reader, writer = await asyncio.open_connection(*host.split(":"))
        headers = [
            f"Host: {host}",
            f"Origin: {self.url}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ]
        writer.write("\r\n".join([f"GET {path} HTTP/1.1", *headers, "", ""]).encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in answer, answer
        return reader, writer

    async def kill(self, child: SupervisedProcess) -> None:  # type: ignore[override]  # one process, and it comes back
        """Kill a process with SIGKILL. Returns when it has been restarted and is ready."""
        child.signal(signal.SIGKILL)
        async with asyncio.timeout(FRAME_SECONDS):
            await child.ready.wait()


def _address(room: str, after: int | None) -> str:
    return f"/ws/chat/{room}/" + ("" if after is None else f"?after={after}")


def print_line(name: str, line: str) -> None:
    """Print a line of a process's output, which pytest shows if the test fails."""
    sys.stdout.write(f"{name:>9} | {line}\n")


@asynccontextmanager
async def installation(folder: Path, **options: Any) -> AsyncIterator[Installation]:
    """Run an installation, and print the output of its processes. Its database is of the kind that the tests use."""
    local = Installation(folder, print_line, **options)
    local.database_url = options.get("database_url") or await new_database(folder)
    await local.start()
    try:
        yield local
    finally:
        await local.stop()


async def new_database(folder: Path) -> str:
    """Create an empty database of the kind that the tests use, and return its URL."""
    url = os.environ["CHANNELBOX_DATABASE_URL"]
    if url.startswith("sqlite"):
        return f"sqlite:///{folder}/db.sqlite3"
    import psycopg

    name = f"local_{os.urandom(4).hex()}"
    server = url.rpartition("/")[0]
    async with await psycopg.AsyncConnection.connect(f"{server}/postgres", autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"
