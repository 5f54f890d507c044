"""A client that does what docs/protocol.md asks of one, and writes down all that it sees.

It sends at most a window of unanswered messages; after a reconnect those go out again first, oldest first.
"""

import asyncio
import collections
import json
import random
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.faults.history import History, What
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

WINDOW = 40  # messages without an answer: fewer than a connection may send at once
WELCOME_SECONDS = 10.0
SILENT_SECONDS = 25.0
LONGEST_PAUSE = 15.0
FULL_PAUSE = 10.0
PAGE = 200
TRY_LATER, FULL, TOO_MUCH, BROKEN_OFF = 1013, 4000, 4008, 1006


class Client:
    """One person in one room. `options` are those of websockets' `connect`."""

    def __init__(self, name: str, room: str, url: str, history: History, chance: random.Random, **options: Any) -> None:
        self.name = name
        self.room = room
        self.seq = 0  # the newest event that was heard
        self.unanswered: dict[str, str] = {}  # id -> frame, oldest first
        self.wanted = True
        self.joined = False
        self._url = url
        self._history = history
        self._chance = chance
        self._options = {"compression": None, "proxy": None, "ping_interval": None, "close_timeout": 2, **options}
        self._socket: ClientConnection | None = None
        self._goal: int | None = None  # the newest number when it was welcomed
        self._count = 0
        self._attempt = 0
        self._outgoing: collections.deque[str] = collections.deque()
        self._refused: set[str] = set()  # to be sent again, and nothing new before them
        self._change = asyncio.Event()

    # --- What a run asks of it

    async def say(self) -> None:
        """Says the next thing; waits while too much is unanswered."""
        await self.until(lambda: len(self.unanswered) < WINDOW)
        self._count += 1
        id = f"{self.name}-{self._count}"
        self.unanswered[id] = json.dumps({"message": f"{self.name} says {self._count}", "id": id})
        self._note(What.SAID, id=id)
        if self.joined and not self._refused:
            self._outgoing.append(id)
        self._tell()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when the condition holds of what this client has seen."""
        while not condition():
            await self._change.wait()

    async def leave(self) -> None:
        """Away, until `come_back`."""
        self.wanted = False
        self._note(What.AWAY)
        if self._socket is not None:
            await self._socket.close()

    def come_back(self) -> None:
        self.wanted = True
        self._tell()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.until(lambda: self.wanted)
            address = f"{self._url}/ws/chat/{self.room}/?after={self.seq}".replace("http", "ws", 1)
            code = 0
            try:
                async with connect(address, **self._options) as self._socket:
                    pump = asyncio.create_task(self._pump(self._socket))
                    try:
                        code = await self._read(self._socket)
                    finally:
                        pump.cancel()
            except (ConnectionClosed, OSError, InvalidHandshake, TimeoutError):
                pass
            self._lost(code)
            if self.wanted:
                await asyncio.sleep(self._pause(code) * self._chance.uniform(0.5, 1.5))

    # --- One connection

    async def _read(self, socket: ClientConnection) -> int:
        """Reads until the connection ends or is given up. Returns its close code."""
        seconds, asked = WELCOME_SECONDS, True
        while True:
            try:
                async with asyncio.timeout(seconds):
                    text = await socket.recv()
            except ConnectionClosed:
                return socket.close_code or BROKEN_OFF
            except TimeoutError:
                if asked:
                    return BROKEN_OFF
                asked = True
                await socket.send('{"type": "ping"}')
                continue
            seconds, asked = SILENT_SECONDS, False
            await self._frame(json.loads(text))

    async def _pump(self, socket: ClientConnection) -> None:
        """Sends what is to go out, one after the other."""
        while True:
            await self.until(lambda: bool(self._outgoing))
            id = self._outgoing.popleft()
            if id in self.unanswered:
                self._note(What.SENT, id=id)
                try:
                    await socket.send(self.unanswered[id])
                except ConnectionClosed:
                    return

    def _lost(self, code: int) -> None:
        if code:
            self._note(What.CLOSED, note=str(code))
        self._socket = None
        self.joined = False
        self._goal = None
        self._outgoing.clear()
        self._refused.clear()

    def _pause(self, code: int) -> float:
        if code in (FULL, TOO_MUCH):
            return FULL_PAUSE
        pause = min(LONGEST_PAUSE, (3.0 if code == TRY_LATER else 0.5) * 2**self._attempt)
        self._attempt += 1
        return pause

    # --- What comes

    async def _frame(self, frame: dict[str, Any]) -> None:
        kind = frame.get("type")
        if kind == "welcome":
            self._welcome(frame)
        elif kind == "gap":
            await self._fill(frame["to"])
        elif kind == "stored":
            self._answered(frame["id"], frame["seq"])
        elif "seq" in frame:
            self._hear(frame)
        elif "error" in frame and frame.get("id") in self.unanswered:
            self._not_stored(frame["id"], frame["code"], frame.get("retry_after"))
        if self._goal is not None and not self.joined and self.seq >= self._goal:
            self.joined = True
            self._outgoing.extend(self.unanswered)
        self._tell()

    def _welcome(self, frame: dict[str, Any]) -> None:
        self._attempt = 0
        self._goal = frame["seq"]
        self._note(What.CONNECTED, seq=frame["seq"])
        if frame["seq"] < self.seq:
            self._note(What.BROKEN, seq=frame["seq"], note=f"the room went back from {self.seq}")

    def _hear(self, frame: dict[str, Any]) -> None:
        self._note(What.HEARD, id=frame["id"], seq=frame["seq"])
        self.seq = frame["seq"]
        self._answered(frame["id"], frame["seq"])

    def _answered(self, id: str, seq: int) -> None:
        if id in self.unanswered:
            del self.unanswered[id]
            self._note(What.ACCEPTED, id=id, seq=seq)

    def _not_stored(self, id: str, code: str, after: float | None) -> None:
        self._note(What.REFUSED, id=id, note=code)
        if after is None:
            del self.unanswered[id]
            return
        if not self._refused:
            asyncio.get_running_loop().call_later(after, self._send_again, self._socket)
        self._refused.add(id)

    def _send_again(self, socket: ClientConnection | None) -> None:
        """The oldest that was refused, and whatever came after it."""
        if socket is self._socket and self._refused:
            ids = list(self.unanswered)
            first = min(ids.index(id) for id in self._refused if id in self.unanswered)
            self._refused.clear()
            self._outgoing = collections.deque(ids[first:])
            self._tell()

    async def _fill(self, last: int) -> None:
        """Reads over HTTP what the socket leaves out, before what follows it."""
        while self.seq < last:
            path = f"/chat/api/rooms/{self.room}/messages?after={self.seq}&limit={PAGE}"
            page = await asyncio.to_thread(self._get, path)
            for frame in page["messages"]:
                if frame["seq"] <= last:
                    self._hear(frame)
            if not page["messages"]:
                self._note(What.BROKEN, seq=last, note=f"HTTP has nothing after {self.seq}")
                return

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(self._url + path, headers=self._options.get("additional_headers", {}))
        with urllib.request.urlopen(request, timeout=10, context=self._options.get("ssl")) as answer:
            return json.load(answer)

    # --- Its own record

    def _note(self, what: str, **fields: Any) -> None:
        self._history.add(self.name, what, self.room, **fields)

    def _tell(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
