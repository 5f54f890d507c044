"""A client that records the outcome of each message that it sends."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from bench import frames
from bench.generator import HOST, Address
from channelbox_client import Event, Gap, Other, Room, Welcome
from channelbox_client.outbox import retry_seconds
from channelbox_client.room import Rejoin

CONNECT_SECONDS = 60.0
POLL_SECONDS = 0.02


class Client(asyncio.Protocol):
    """One connection to a room. `entered` is set by the welcome, `closed` when the connection has ended.

    The client library interprets the frames. Its connection and its outbox are not used, as they keep to the limits
    that a scenario exceeds.
    """

    def __init__(self, request: bytes, room: Room) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self._rest = b""
        self._open = False
        self.transport: asyncio.Transport
        self.entered: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.close_code: int | None = None
        self.room = room  # the state of the room, also for the next connection
        self.heard = 0  # events received in sequence, without duplicates
        self.missed = 0  # events that were not received
        self.typed = 0  # typing notifications received
        self.waiting: dict[str, float] = {}  # ids of messages without an answer, with their time of sending
        self.stored = 0
        self.refused: Counter[str] = Counter()  # by code
        # Called when a message of its own is answered, with the seconds to wait before the next
        self.answered: Callable[[float], None] | None = None

    @classmethod
    async def connect(cls, address: Address, room: str, number: int, has: Room | None = None) -> Self:
        """Connect and send the request. Raises OSError if that fails; `entered` shows whether it joins the room.

        `has`: the room's state from an earlier connection, to resume from it.
        """
        has = has or Room()
        has.opened()
        request = address.request(room, number, has.query)
        async with asyncio.timeout(CONNECT_SECONDS):
            loop = asyncio.get_running_loop()
            _, client = await loop.create_connection(lambda: cls(request, has), HOST, address.port)
        return client

    async def until(self, seq: int) -> None:
        """Wait until every event up to `seq` was received, or the connection is closed."""
        while (self.room.last or 0) < seq and not self.closed.done():
            await asyncio.sleep(POLL_SECONDS)

    def say(self, id: str, text: str) -> None:
        self.waiting[id] = time.perf_counter()
        self.write(json.dumps({"message": text, "id": id}, ensure_ascii=False).encode())

    def write(self, payload: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(frames.masked(frames.TEXT, payload))

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._open:
            head, end, body = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = data
                return
            if b" 101 " not in head[:20]:
                self._not_entered(head[:80].decode("latin1"))
                self.transport.close()
                return
            self._open, data = True, body
        whole, self._rest = frames.split(data)
        for opcode, payload in whole:
            if opcode == frames.TEXT:
                self._read(json.loads(payload))
            elif opcode == frames.PING:
                self.transport.write(frames.masked(frames.PONG, payload))
            elif opcode == frames.CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big")
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._not_entered(f"closed with {self.close_code}")
        if not self.closed.done():
            self.closed.set_result(None)

    def _not_entered(self, reason: str) -> None:
        if not self.entered.done():
            self.entered.set_exception(ConnectionError(reason))
            self.entered.exception()  # no warning if nobody awaits it any more

    def _read(self, frame: dict[str, Any]) -> None:
        for effect in self.room.frame(frame):
            match effect:
                case Event(event):
                    self.heard += 1
                    if event.get("user") == self.room.you:
                        self._stored(event)
                case Welcome():
                    self._enter()
                case Gap(first, last):
                    self.missed += last - first + 1
                case Rejoin():
                    self.missed += 1
                case Other({"type": "typing"}):
                    self.typed += 1
        if frame.get("type") == "stored":
            self._stored(frame)
        elif "error" in frame:
            self.refused[str(frame.get("code"))] += 1
            self._answer(frame.get("id"), retry_seconds(frame) or 0)

    def _enter(self) -> None:
        if not self.entered.done():
            self.entered.set_result(None)

    def _stored(self, frame: dict[str, Any]) -> None:
        id = frame.get("id")
        if id in self.waiting:
            self.stored += 1
            self._answer(id)

    def _answer(self, id: str | None, wait: float = 0) -> None:
        if id is not None and self.waiting.pop(id, None) is not None and self.answered is not None:
            self.answered(wait)


class DashboardClient(Client):
    """One connection to the dashboard, which has no room; any frame of type welcome counts as its welcome."""

    def _read(self, frame: dict[str, Any]) -> None:
        super()._read(frame)
        if frame.get("type") == "welcome":
            self._enter()
