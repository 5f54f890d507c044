"""Servers and clients for tests: channelbox' protocols in a real uvicorn, and clients that can send any bytes."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvicorn
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import apply_mask

from channelbox.realtime.frames import text_frame
from channelbox.realtime.protocol import EXTENSION, FrameProtocol
from channelbox.realtime.protocol_switch import ProtocolSwitch

UPGRADE = (
    b"GET /ws/?after=3 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
FIN = 0x80

Run = Callable[[Coroutine[Any, Any, None]], None]
# For long tables of cases: run only on the event loop that installations use
on_uvloop = pytest.mark.parametrize("run", [uvloop.run], ids=["uvloop"], indirect=True)


class Room:
    """A minimal application: each connection becomes a member; a text frame closes it with 4000."""

    def __init__(self) -> None:
        self.members: list[FrameProtocol] = []
        self.lost: list[FrameProtocol] = []
        self.changed = asyncio.Event()
        self.taking = asyncio.Event()
        self.taking.set()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        member: FrameProtocol = scope["extensions"][EXTENSION]
        member.on_lost = lambda: self._lost(member)
        self.members.append(member)
        self.changed.set()
        await self.taking.wait()
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.close", "code": 4000})
            member.write_frames(text_frame(b"after the Close frame"))

    def _lost(self, member: FrameProtocol) -> None:
        self.lost.append(member)
        self.changed.set()

    def write(self, payload: bytes) -> None:
        for member in self.members:
            member.write_frames(text_frame(payload))

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            self.changed.clear()
            await self.changed.wait()


class Echo(Room):
    """An application that echoes messages, and keeps the events that it received in order."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.members.append(scope["extensions"][EXTENSION])
        self.changed.set()
        while True:
            self.events.append(event := await receive())
            if event["type"] != "websocket.receive":
                break
            await send({**event, "type": "websocket.send"})


def masked(opcode: int, payload: bytes = b"", first: int = FIN, mask: bytes = b"\x1a\x2b\x3c\x4d") -> bytes:
    """Return a client's frame. `first`: the bits beside the opcode."""
    size = len(payload)
    head = bytes([first | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    return head + mask + apply_mask(payload, mask)


class RawClient:
    """A client without a library: bytes go out unchanged, and nothing is answered automatically."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def opened(cls, port: int) -> "RawClient":
        """Open a connection without sending a request."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @classmethod
    async def upgraded(cls, port: int) -> "RawClient":
        """Open a connection and complete the handshake."""
        client = await cls.opened(port)
        client.write(UPGRADE)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        return client

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        """Read the response's status line and headers."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def frame(self) -> tuple[int, bytes]:
        """Read the next frame. Returns its first byte and its payload."""
        first, size = await self.reader.readexactly(2)
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        return first, await self.reader.readexactly(size)

    async def close_code(self) -> int:
        """Skip frames up to the server's Close, and return its code; 1005 if it has none."""
        first = 0
        while first != FIN | 8:
            first, payload = await self.frame()
        return int.from_bytes(payload[:2], "big") if payload else 1005

    async def ended(self) -> bytes:
        """Read until the server closes the connection."""
        return await self.reader.read()

    def leave(self) -> None:
        self.writer.transport.abort()


class Served:
    def __init__(self, room: Room, server: uvicorn.Server, port: int) -> None:
        self.room = room
        self.server = server
        self.port = port

    async def client(self) -> ClientConnection:
        """Connect a client that reads. Returns when it is a member."""
        count = len(self.room.members)
        client = await connect(f"ws://127.0.0.1:{self.port}/", compression=None, ping_interval=None)
        await self.room.until(lambda: len(self.room.members) > count)
        return client

    async def silent_client(self) -> socket.socket:
        """Connect a client that never reads. Returns when it is a member."""
        count = len(self.room.members)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self.port))
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await self.room.until(lambda: len(self.room.members) > count)
        return client


@contextlib.asynccontextmanager
async def served(room: Room | None = None, **options: Any) -> AsyncIterator[Served]:
    room = room or Room()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        room, http=ProtocolSwitch, ws=FrameProtocol, lifespan="off", log_config=None, log_level="warning", **options
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield Served(room, server, listener.getsockname()[1])
    finally:
        server.should_exit = True
        await serving
        listener.close()
