"""Connections of our protocols in a real uvicorn with real sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvicorn
from websockets.asyncio.client import ClientConnection, connect

from channelbox.realtime.protocol_switch import ProtocolSwitch
from channelbox.realtime.frames import text_frame
from channelbox.realtime.protocol import EXTENSION, FrameProtocol

Run = Callable[[Coroutine[Any, Any, None]], None]


class Room:
    """The smallest application: whoever connects is a member; a text frame ends the connection with 4000."""

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


class Served:
    def __init__(self, room: Room, server: uvicorn.Server, port: int) -> None:
        self.room = room
        self.server = server
        self.port = port

    async def client(self) -> ClientConnection:
        """A client that reads, once it is a member."""
        count = len(self.room.members)
        client = await connect(f"ws://127.0.0.1:{self.port}/", compression=None, ping_interval=None)
        await self.room.until(lambda: len(self.room.members) > count)
        return client

    async def silent_client(self) -> socket.socket:
        """A client that never reads again, once it is a member."""
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
