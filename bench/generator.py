"""Load generator: members of rooms on raw sockets in this process, and the messages that they receive.

The client library detects when a member has joined a room of channelbox. From then on received bytes are not parsed for
each member: a broadcast reaches every member as the same bytes, so the numbers of the messages in a chunk are looked up
in a cache. A member therefore costs the generator about as little as it costs the most efficient of the servers.
"""

import asyncio
import base64
import contextlib
import functools
import gc
import itertools
import json
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench import frames
from channelbox_client import Room, Welcome

HOST = "127.0.0.1"
MAX_CONNECTING = 64  # concurrent attempts to connect
JOIN_SECONDS = 60.0
MAX_KNOWN_CHUNKS = 256  # entries in the cache of message numbers


@dataclass(frozen=True)
class Address:
    """Address of a server's rooms, and the form of what clients send and receive."""

    port: int
    path: str  # with {room}
    tls: bool = False
    cookies: Sequence[str] = ()  # of signed-in sessions, "name=value"; members use them in turn
    state: Callable[[], Room] | None = None  # detects when a member has joined; None: status 101 means joined
    encode: Callable[[str], str] = str  # turns a text into what a client sends

    def request(self, room: str, number: int, query: str = "") -> bytes:
        lines = [
            f"GET {self.path.format(room=room)}{query} HTTP/1.1",
            f"Host: {HOST}:{self.port}",
            f"Origin: http://{HOST}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode(),
        ]
        if self.cookies:
            lines.append("Cookie: " + self.cookies[number % len(self.cookies)])
        return "\r\n".join([*lines, "", ""]).encode()


class Flight:
    """A message that not all members of its room have received yet."""

    __slots__ = ("done", "left", "sent")

    def __init__(self, left: int, done: Callable[[float], None]) -> None:
        self.left = left
        self.done = done  # called with the seconds until the last member received it
        self.sent = time.perf_counter()


class Member(asyncio.Protocol):
    """The connection of one member."""

    __slots__ = ("crowd", "joined", "open", "request", "rest", "room", "state", "transport")

    def __init__(self, crowd: "Crowd", room: str, request: bytes) -> None:
        self.crowd = crowd
        self.room = room
        self.request = request
        self.rest = b""
        self.open = False
        self.state = crowd.address.state() if crowd.address.state else None  # until it has joined
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.crowd.connected()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.rest and self.open:
            known = self.crowd.known.get(data)
            if known is not None:
                self.crowd.heard(known)
                return
        self._read(data)

    def _read(self, data: bytes) -> None:
        data = self.rest + data
        if not self.open:
            head, end, body = data.partition(b"\r\n\r\n")
            if not end:
                self.rest = data
                return
            if b" 101 " not in head[:20]:
                self._fail(ConnectionError(head[:80].decode("latin1")))
                return
            self.open = True
            if self.state is None:
                self._join()
            data = body
        whole, self.rest = frames.split(data)
        numbers = []
        for opcode, payload in whole:
            if opcode == frames.TEXT:
                if (number := frames.number_in(payload)) is not None:
                    numbers.append(number)
                elif self.state is not None:
                    self._enter(self.state, json.loads(payload))
            elif opcode == frames.PING:
                self.transport.write(frames.masked(frames.PONG, payload))
            elif opcode == frames.CLOSE:
                self._fail(ConnectionError(f"closed with {int.from_bytes(payload[:2], 'big')} {payload[2:]!r}"))
        if numbers:
            if not self.rest and len(numbers) == len(whole):
                self.crowd.remember(data, numbers)
            self.crowd.heard(numbers)

    def say(self, text: str) -> None:
        self.transport.write(frames.masked(frames.TEXT, text.encode()))

    def _enter(self, state: Room, frame: dict[str, Any]) -> None:
        if any(isinstance(effect, Welcome) for effect in state.frame(frame)):
            self._join()
        elif "error" in frame:
            self._fail(ConnectionError(f"not let in: {frame.get('code')}, {frame['error']}"))

    def _join(self) -> None:
        self.state = None
        if not self.joined.done():
            self.joined.set_result(None)

    def _fail(self, error: ConnectionError) -> None:
        if not self.joined.done():
            self.joined.set_exception(error)
            self.joined.exception()  # no warning if nobody awaits it any more
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.joined.done():
            self.joined.set_exception(exc or ConnectionError("closed before it had joined"))
            self.joined.exception()
        self.crowd.disconnected()


class Crowd:
    """All members of some rooms of one server."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.rooms: dict[str, list[Member]] = {}
        self.flying: dict[int, Flight] = {}
        self.known: dict[bytes, list[int]] = {}
        self.dropped = 0  # members that the server closed
        self._numbers = itertools.count(1)
        self._open = 0
        self._closing = False
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        return self._open

    async def connect(self, sizes: Mapping[str, int]) -> float:
        """Let the given numbers of additional members join the rooms, `MAX_CONNECTING` at a time.

        Returns the seconds until the last has joined.
        """
        names = [name for name, size in sizes.items() for _ in range(size)]
        started = time.perf_counter()
        coming = iter(enumerate(names))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(MAX_CONNECTING, len(names))):
                group.create_task(self._join(coming))
        return time.perf_counter() - started

    async def _join(self, coming: Iterator[tuple[int, str]]) -> None:
        loop = asyncio.get_running_loop()
        context = _unverified_context() if self.address.tls else None
        for number, room in coming:
            request = self.address.request(room, number)
            async with asyncio.timeout(JOIN_SECONDS):
                _, member = await loop.create_connection(
                    lambda room=room, request=request: Member(self, room, request),
                    HOST,
                    self.address.port,
                    ssl=context,
                    ssl_handshake_timeout=JOIN_SECONDS if context else None,
                )
                self.rooms.setdefault(room, []).append(member)
                await member.joined

    def say(self, room: str, turn: int, done: Callable[[float], None]) -> None:
        """Send a message from the room's next member.

        `done` is called when every member has received it, with the seconds that this took.
        """
        members = self.rooms[room]
        number = next(self._numbers)
        self.flying[number] = Flight(len(members), done)
        members[turn % len(members)].say(self.address.encode(frames.message(number)))

    def heard(self, numbers: list[int]) -> None:
        for number in numbers:
            flight = self.flying.get(number)
            if flight is not None:
                flight.left -= 1
                if not flight.left:
                    del self.flying[number]
                    flight.done(time.perf_counter() - flight.sent)

    def remember(self, data: bytes, numbers: list[int]) -> None:
        if len(self.known) >= MAX_KNOWN_CHUNKS:
            self.known.clear()
        self.known[data] = numbers

    def connected(self) -> None:
        self._open += 1

    def disconnected(self) -> None:
        self._open -= 1
        self.dropped += not self._closing
        if not self._open:
            self._empty.set()

    async def close(self) -> None:
        """Close all connections. Returns when they have ended, or after `JOIN_SECONDS` at the latest."""
        self._closing = True
        self._empty.clear()
        bye = frames.masked(frames.CLOSE, (1000).to_bytes(2, "big"))
        for members in self.rooms.values():
            for member in members:
                if not member.transport.is_closing():
                    member.transport.write(bye)
        if self._open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(JOIN_SECONDS):
                    await self._empty.wait()
        for members in self.rooms.values():
            for member in members:
                member.transport.abort()
        self.rooms.clear()
        self.known.clear()


@dataclass
class Busy:
    """CPU use of the generator. `share` is of one core; above 0.9 the generator itself was the bottleneck."""

    share: float = 0.0
    seconds: float = field(default=0.0)


@contextmanager
def measured() -> Iterator[Busy]:
    """Measure the generator's CPU use during a run, with the garbage collector disabled."""
    busy = Busy()
    gc.collect()
    gc.disable()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield busy
    finally:
        busy.seconds = time.perf_counter() - wall
        busy.share = (time.process_time() - cpu) / busy.seconds if busy.seconds else 0.0
        gc.enable()


@functools.cache
def _unverified_context() -> ssl.SSLContext:
    """Return a TLS context that verifies no certificate. Cached, as creating one takes longer than a handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
