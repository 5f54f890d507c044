"""A client that keeps account of what became of each thing that it sent."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from bench import frames
from bench.generator import HOST, Address

CONNECT_SECONDS = 60.0


class Client(asyncio.Protocol):
    """One socket. `entered` is set by its welcome, `closed` when it is gone."""

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self._rest = b""
        self._open = False
        self.transport: asyncio.Transport
        self.entered: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.close_code: int | None = None
        self.seq = 0  # the newest number heard
        self.heard = 0
        self.typed = 0  # how often it heard that somebody is writing
        self.waiting: dict[str, float] = {}  # ids without an answer, with the time at which they were sent
        self.stored = 0
        self.refused: Counter[str] = Counter()  # by code
        # Called when one of its own was answered, with the seconds to wait before the next
        self.answered: Callable[[float], None] | None = None

    @classmethod
    async def connect(cls, address: Address, room: str, number: int, after: int | None = None) -> Self:
        """Raises OSError when there is no connection. Whether it enters is seen from `entered`."""
        request = address.request(room, number)
        if after is not None:
            request = request.replace(b" HTTP/1.1", f"?after={after} HTTP/1.1".encode(), 1)
        async with asyncio.timeout(CONNECT_SECONDS):
            loop = asyncio.get_running_loop()
            _, client = await loop.create_connection(lambda: cls(request), HOST, address.port)
        return client

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
            self.entered.exception()  # whoever has given up waiting is no error

    def _read(self, frame: dict[str, Any]) -> None:
        id = frame.get("id")
        if frame.get("type") == "welcome":
            if not self.entered.done():
                self.entered.set_result(None)
        elif "error" in frame:
            self.refused[str(frame.get("code"))] += 1
            self._answer(id, frame.get("retry_after", 0))
        elif frame.get("type") == "typing":
            self.typed += 1
        elif frame.get("seq"):
            self.heard += 1
            self.seq = max(self.seq, frame["seq"])
            if id in self.waiting:
                self.stored += 1
                self._answer(id)

    def _answer(self, id: str | None, wait: float = 0) -> None:
        if id is not None and self.waiting.pop(id, None) is not None and self.answered is not None:
            self.answered(wait)
