"""An in-memory server of one room, following docs/protocol.md, and a client of it whose connections are cut."""

import random
from typing import Any
from urllib.parse import parse_qs

from channelbox_client import (
    Connect,
    Drop,
    Effect,
    Event,
    Forget,
    Gap,
    Refused,
    RoomClient,
    Send,
    Stored,
)

HISTORY, CATCH_UP = 5, 12
YOU = "alice"

Frame = dict[str, Any]


class Server:
    """The record of one room, and the frames that a connection receives.

    `modern`: whether the server sends an epoch, a floor and gaps that are gone.
    """

    def __init__(self, *, modern: bool = True) -> None:
        self.modern = modern
        self.epoch = "epoch-1"
        self.newest = 0
        self.record: dict[int, Frame] = {}  # missing numbers are gone
        self.ids: dict[tuple[str, str], int] = {}
        self.refuses = 0  # number of coming messages to refuse with `retry_after`

    def store(self, user: str, id: str, text: str) -> tuple[int, bool]:
        """Store a message unless it is stored already. Returns its number, and whether it is new."""
        if (seq := self.ids.get((user, id))) is not None:
            return seq, False
        self.newest += 1
        self.ids[user, id] = self.newest
        self.record[self.newest] = {
            "type": "message",
            "seq": self.newest,
            "id": id,
            "user": user,
            "message": text,
            "epoch": self.epoch,  # for the checks of the tests: the epoch in which it was stored
        }
        return self.newest, True

    def recreate(self, events: int) -> None:
        """Start another epoch with `events` events, as if the room was created again or a backup restored."""
        self.epoch = f"epoch-{int(self.epoch.rpartition('-')[2]) + 1}"
        self.newest = 0
        self.record.clear()
        self.ids.clear()
        for _ in range(events):
            self.store("bob", f"anew-{self.newest}", "again")

    def erase(self, first: int, last: int) -> None:
        for seq in range(first, last + 1):
            self.record.pop(seq, None)

    def greeting(self, query: str) -> list[Frame]:
        """Return the frames that a new connection receives immediately."""
        query_fields = parse_qs(query.removeprefix("?"))
        after = int(query_fields["after"][0]) if "after" in query_fields else None
        same = not self.modern or query_fields.get("epoch", [self.epoch])[0] == self.epoch
        resumed = same and after is not None and self.newest - CATCH_UP <= after <= self.newest
        start = after if resumed and after is not None else max(0, self.newest - HISTORY)
        welcome: Frame = {"type": "welcome", "seq": self.newest, "you": YOU, "resumed": resumed, "may": []}
        welcome["limits"] = {"message": 4000, "rate": 20, "burst": 60}
        if self.modern:
            welcome |= {"protocol": 2, "version": "0.2.0", "epoch": self.epoch, "floor": min(self.record, default=1)}
        frames = [welcome]
        if same and not resumed and after is not None and after < start:
            floor = min(self.record, default=1) if self.modern else 1
            if (have := min(max(after, floor - 1), start)) > after:
                frames.append({"type": "gap", "from": after + 1, "to": have, "gone": True})
            if have < start:
                frames.append({"type": "gap", "from": have + 1, "to": start})
        return [*frames, *self.events(start + 1, self.newest), {"type": "presence", "count": 1, "users": [YOU]}]

    def events(self, first: int, last: int) -> list[Frame]:
        """Return the events from `first` to `last`, with gaps for those that are gone."""
        frames: list[Frame] = []
        for seq in range(first, last + 1):
            if seq in self.record:
                frames.append(self.record[seq])
            elif self.modern:
                if frames and frames[-1].get("gone") and frames[-1]["to"] == seq - 1:
                    frames[-1] = {**frames[-1], "to": seq}
                else:
                    frames.append({"type": "gap", "from": seq, "to": seq, "gone": True})
        return frames


class Run:
    """A client connected to that server. Frames are delivered one by one in each direction and may be lost."""

    def __init__(self, server: Server, seed: int = 0) -> None:
        self.server = server
        self.client = RoomClient(random=random.Random(seed).random)
        self.now = 1000.0
        self.shown: list[Frame] = []
        self.gone: set[int] = set()
        self.answers: dict[str, list[Effect]] = {}  # id -> stored or refused
        self.queries: list[str] = []
        self.down: list[Frame] = []
        self.up: list[Frame] = []
        self.on_the_wire: set[str] = set()
        self.connected = False
        self.apply(self.client.connect(self.now))

    def apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Connect(query):
                    self.queries.append(query)
                    self.disconnected()
                    self.connected = True
                    self.down = list(self.server.greeting(query))
                case Drop():
                    self.disconnected()
                case Send(frame):
                    if "id" in frame:
                        assert frame["id"] not in self.on_the_wire, "twice on one connection"
                        self.on_the_wire.add(frame["id"])
                    self.up.append(frame)
                case Event(event):
                    self.shown.append(event)
                case Gap(first, last, True):
                    self.gone.update(range(first, last + 1))
                case Forget():
                    self.shown.clear()
                    self.gone.clear()
                case Stored(id) | Refused(id):
                    self.answers.setdefault(id, []).append(effect)

    def disconnected(self) -> None:
        self.connected = False
        self.up.clear()
        self.down.clear()
        self.on_the_wire.clear()

    def cut(self, code: int = 1006) -> None:
        if self.connected:
            self.disconnected()
            self.apply(self.client.closed(code, "", self.now))

    def receive_frame(self, frame: object) -> None:
        if self.connected:
            if isinstance(frame, dict) and "error" in frame:
                self.on_the_wire.discard(frame.get("id", ""))
            self.apply(self.client.frame(frame, self.now))

    def receive(self, frames: int) -> None:
        for _ in range(frames):
            if self.down:
                self.receive_frame(self.down.pop(0))

    def deliver(self, frames: int) -> None:
        """Deliver frames from the client to the server, which stores or refuses them and answers."""
        for _ in range(frames):
            if self.up and "message" in (frame := self.up.pop(0)):
                if self.server.refuses:
                    self.server.refuses -= 1
                    error = {"error": "Too fast.", "code": "too_fast", "id": frame["id"], "retry_after": 0.5}
                    self.down.append(error)
                    continue
                seq, new = self.server.store(YOU, frame["id"], frame["message"])
                stored = {"type": "stored", "id": frame["id"], "seq": seq}
                self.down.append(self.server.record[seq] if new else stored)

    def other_says(self, count: int) -> None:
        for _ in range(count):
            seq, _ = self.server.store("bob", f"bob-{self.server.epoch}-{self.server.newest}", "hi")
            if self.connected:
                self.down.append(self.server.record[seq])

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.apply(self.client.tick(self.now))

    def say(self, text: str, id: str) -> None:
        self.apply(self.client.say(text, self.now, id=id))

    def settle(self) -> None:
        """Deliver everything without further faults, until the client has joined and has no unanswered message."""
        for _ in range(200):
            while self.up or self.down:
                self.deliver(len(self.up))
                self.receive(len(self.down))
            if self.client.state == "joined" and not self.client.outbox.unanswered:
                return
            due = self.client.due
            self.pass_time(max(0.001, due - self.now) if due is not None else 1.0)
        raise AssertionError(f"{self.client.state}; unanswered: {self.client.outbox.unanswered}")

    def check(self) -> None:
        """Assert that the shown events are one run of the current room: each once, in order, up to the newest."""
        numbers = [event["seq"] for event in self.shown]
        assert all(event["epoch"] == self.server.epoch for event in self.shown)
        assert self.client.room.last == self.server.newest or not self.server.newest
        if numbers:
            there = range(numbers[0], self.server.newest + 1)
            assert [seq for seq in there if seq not in self.gone] == numbers
        else:
            assert not any(seq in self.server.record for seq in range(self.server.newest - HISTORY, 10**6))
