"""A client that follows docs/protocol.md by using the client library, and records everything that it sees.

Frames are recorded as they arrive, before the library removes duplicates and restores the sequence. Events are
identified by their sender's name and id, because two people may use the same ids.
"""

import asyncio
import contextlib
import json
import random
import urllib.request
from typing import Any

from tests.faults.history import History, What

from channelbox_client import Effect, Forget, Refused, RoomClient, Stored, Welcome
from channelbox_client.aio import Room, Stopped

WINDOW = 40  # unanswered messages
SHARE = 0.9  # of the limits; each client is the only one of its person, or one of two
PAGE = 200
STOPPED_PAUSE = 5.0
NO_EVENTS = ("welcome", "stored")


class Client(Room):
    """One person in one room. `options` are those of websockets' `connect`."""

    def __init__(self, name: str, room: str, url: str, history: History, rng: random.Random, **options: Any) -> None:
        self.name = name
        self.room = room
        self.wanted = True
        self._http = url
        self._history = history
        self._rng = rng
        self._count = 0
        self._sent: dict[str, bool] = {}  # ids sent on this connection, and whether they were answered
        client = RoomClient(share=SHARE, fills=True, random=rng.random)
        address = f"{url}/ws/chat/{room}/".replace("http", "ws", 1)
        super().__init__(address, client=client, proxy=None, **options)

    # --- Called by a run

    @property
    def seq(self) -> int:
        """The number of the newest event that was received."""
        return self.client.room.last or 0

    @property
    def joined(self) -> bool:
        return self.client.state == "joined"

    async def speak(self) -> None:
        """Send the next message, after waiting while too many are unanswered."""
        await self.until(lambda: bool(self.client.room.you) and len(self.unanswered) < WINDOW)
        self._count += 1
        id = self.new_id()
        self._note(What.SAID, id=self._key(id))
        self.say(f"{self.name} says {self._count}", id=id)

    def new_id(self) -> str:
        return f"{self.name}-{self._count}"

    def go_away(self) -> None:
        """Leave the room until `come_back` is called."""
        self.wanted = False
        self._note(What.AWAY)
        self.leave()

    def come_back(self) -> None:
        if not self.wanted:
            self.wanted = True
            self.connect()

    async def run(self) -> None:
        """Stay in the room until cancelled."""
        while True:
            try:
                await super().run()
            except Stopped as stopped:
                self._note(What.BROKEN, note=str(stopped))
                await asyncio.sleep(STOPPED_PAUSE)

    # --- Called by the library

    async def on_frame(self, frame: object) -> None:
        if not isinstance(frame, dict):
            self._note(What.BROKEN, note=f"no JSON object: {frame!r}")
            return
        if frame.get("type") == "welcome" and self.client.room.last is None and frame["seq"]:
            self.client.room.last = 0  # joined late: ask for all events from the first on
            self.connect()
            return
        self._answered(frame)
        if "seq" in frame and frame.get("type") not in NO_EVENTS:
            self._note(What.HEARD, id=f"{frame['user']}/{frame['id']}", seq=frame["seq"])
        elif "retry_after" in frame and frame.get("id") in self.unanswered:
            self._note(What.REFUSED, id=self._key(frame["id"]), note=frame["code"])
        self.take(frame)
        if frame.get("type") == "gap" and not frame.get("gone"):
            await self._fill(frame["to"])

    def on_sent(self, frame: dict[str, Any]) -> None:
        if "id" in frame:
            self._sent[frame["id"]] = False
            self._note(What.SENT, id=self._key(frame["id"]))

    def on_closed(self, code: int) -> None:
        self._note(What.CLOSED, note=str(code))

    def on_effect(self, effect: Effect) -> None:
        match effect:
            case Welcome(frame):
                self._sent.clear()
                self._note(What.CONNECTED, seq=frame["seq"])
            case Stored(id, seq):
                self._note(What.ACCEPTED, id=self._key(id), seq=seq)
            case Refused(id, code):
                self._note(What.REFUSED, id=self._key(id), note=code)
                self.client.outbox.take(id)
            case Forget():
                self._note(What.BROKEN, note="the room is another one than before")

    def _answered(self, frame: dict[str, Any]) -> None:
        """Check that each sending on a connection gets at most one answer: its own event, `stored` or an error."""
        id = frame.get("id")
        if id not in self._sent or frame.get("user", self.client.room.you) != self.client.room.you:
            return
        if self._sent[id]:
            self._note(What.BROKEN, id=self._key(id), note=f"{id} was answered twice on one connection")
        self._sent[id] = True

    async def _fill(self, last: int) -> None:
        """Read the events of a gap over HTTP, before those that follow it."""
        while self.seq < last:
            path = f"/chat/api/rooms/{self.room}/events?after={self.seq}&limit={PAGE}"
            with contextlib.suppress(OSError):
                page = await asyncio.to_thread(self._get, path)
                for frame in page["events"]:
                    if frame["seq"] <= last:
                        await self.on_frame(frame)
                if page["events"]:
                    continue
                self._note(What.BROKEN, seq=last, note=f"HTTP has nothing after {self.seq}")
                return
            await asyncio.sleep(1)

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(self._http + path, headers=self._options.get("additional_headers", {}))
        with urllib.request.urlopen(request, timeout=10, context=self._options.get("ssl")) as answer:
            return json.load(answer)

    # --- Recording

    def _key(self, id: str) -> str:
        return f"{self.client.room.you}/{id}"

    def _note(self, what: str, **fields: Any) -> None:
        self._history.add(self.name, what, self.room, **fields)
