"""A hub over real Redis, and its members. The store is a fake that can fail, and that counts its reads.

Test modules import the fixtures.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channelbox.realtime import redis_keys
from channelbox.realtime.admission import Source
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import BatchOutcome, Envelope
from channelbox.realtime.frames import payloads, text_frame
from channelbox.realtime.history_source import Identity, Opened
from channelbox.realtime.hub import NO_SOURCE, Hello, Hub
from channelbox.realtime.hub_room import Run, gone

NEW = Identity(2, "another epoch")


def frames(first: int, last: int) -> bytes:
    return b"".join(text_frame(b"%d" % seq) for seq in range(first, last + 1))


class FakeStore:
    """A history source with the events 1 to `last`, except those in `missing`. The next `failures` reads fail."""

    def __init__(self, last: int = 0, opens_with: int = 200) -> None:
        self.identity = Identity(1, "epoch")
        self.floor = 1
        self.missing: set[int] = set()
        self.last = last
        self.opens_with = opens_with
        self.reads = 0
        self.failures = 0
        self.during_read: Callable[[], None] = lambda: None

    def _read(self) -> None:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise OSError("the record is away")

    async def open(self, name: str) -> Opened:
        self._read()
        first = self.last + 1
        while first > max(1, self.floor, self.last - self.opens_with + 1) and first - 1 not in self.missing:
            first -= 1
        return Opened(self.identity, self.floor, Run(first, self.last, frames(first, self.last)))

    async def after(self, name: str, identity: Identity, seq: int, most: int) -> Run:
        self._read()
        if identity != self.identity:
            raise LookupError("made anew")
        present = [n for n in range(seq + 1, self.last + 1) if n >= self.floor and n not in self.missing]
        await asyncio.sleep(0)
        self.during_read()
        if seq < self.last and present[:1] != [seq + 1]:
            return gone(seq + 1, present[0] - 1 if present else self.last)
        last = seq
        while last + 1 in present[:most]:
            last += 1
        return Run(seq + 1, last, frames(seq + 1, last))


class Listener:
    """A member that records the payloads that it receives."""

    def __init__(self) -> None:
        self.on_lost: Callable[[], None] | None = None
        self.received: list[str] = []
        self._more = asyncio.Event()

    def restart(self) -> None:
        self.received.append("restart")
        self._more.set()

    def write_frames(self, frames: bytes) -> None:
        self.received += [bytes(payload).decode() for _, payload in payloads(frames)]
        self._more.set()

    @property
    def numbers(self) -> list[int]:
        return [int(word) for word in self.received if word.isdigit()]

    @property
    def gaps(self) -> list[dict[str, Any]]:
        return [json.loads(word) for word in self.received if word.startswith("{")]

    async def until(self, word: str) -> None:
        async with asyncio.timeout(10):
            while word not in self.received:
                self._more.clear()
                await self._more.wait()


def greet(hello: Hello) -> bytes:
    return text_frame(f"welcome {hello.newest} {hello.resumed}".encode())


@pytest.fixture
async def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
async def opening(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return an event. While it is cleared, opening a room in the store blocks."""
    go, original = asyncio.Event(), store.open

    async def open(name: str) -> Opened:
        await go.wait()
        return await original(name)

    monkeypatch.setattr(store, "open", open)
    go.set()
    return go


@pytest.fixture
async def hub(bus: Bus, store: FakeStore) -> AsyncIterator[Hub]:
    hub = Hub(bus, store, "me")
    yield hub
    await hub.stop()


async def publish_events(bus: Bus, store: FakeStore, first: int, last: int, *outcomes: BatchOutcome) -> None:
    """Commit and publish events, as a worker does."""
    store.last = max(store.last, last)
    key, epoch = store.identity
    envelope = Envelope(first, last, frames(first, last), key, outcomes, epoch=epoch)
    await bus.publish(redis_keys.room("r"), envelope.pack())


async def join(
    hub: Hub,
    after: int | None = None,
    history: int = 50,
    identity: Identity | None = None,
    source: Source = NO_SOURCE,
) -> Listener:
    """Join a member to the room with this identity, or with the one that the store has now."""
    listener = Listener()
    store: Any = hub._store
    await hub.join("r", identity or store.identity, listener, after, history, greet, source=source)
    return listener


def gap(first: int, last: int) -> dict[str, Any]:
    return {"type": "gap", "from": first, "to": last, "gone": True}
