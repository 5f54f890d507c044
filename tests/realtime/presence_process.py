"""The parts of a web process that presence needs, and a member that records what it receives."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from channelbox.realtime import redis_keys
from channelbox.realtime.background_tasks import cancel
from channelbox.realtime.bus import Bus
from channelbox.realtime.frames import payloads
from channelbox.realtime.history_source import Identity, Opened
from channelbox.realtime.hub import Hub
from channelbox.realtime.hub_room import Run
from channelbox.realtime.presence import Presence
from channelbox.realtime.redis_hosts import Host
from channelbox.realtime.room_slots import RoomSlots


class EmptyStore:
    """A history source without events."""

    async def open(self, name: str) -> Opened:
        return Opened(Identity(1, "epoch"), 1, Run(1, 0, b""))

    async def after(self, name: str, identity: Identity, seq: int, most: int) -> Run:
        return Run(seq + 1, seq, b"")


class Watcher:
    """A member that keeps the newest presence that it has received."""

    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.newest: dict[str, Any] = {}
        self.count = 0
        self.counts: list[int] = []
        self._more = asyncio.Event()

    def restart(self) -> None:
        raise AssertionError("no member is disconnected here")

    def write_frames(self, frames: bytes) -> None:
        for _, payload in payloads(frames):
            content = json.loads(bytes(payload))
            if content.get("type") == "presence":
                self.newest = content
                self.count += 1
                self.counts.append(content["count"])
                self._more.set()

    async def until(self, *users: str) -> None:
        async with asyncio.timeout(15):
            while self.newest.get("users") != sorted(users):
                self._more.clear()
                await self._more.wait()


class Process:
    def __init__(self, name: str, hosts: list[Host] | None = None) -> None:
        # A separate bus, because a bus has one handler per room.
        self.bus = Bus(hosts)
        self.hub = Hub(self.bus, EmptyStore(), name)
        self.slots = RoomSlots(self.bus, name)
        self.presence = Presence(self.bus, self.hub, name)
        self.hub.on_open = self.presence.opened
        self.name = name
        self.watcher = Watcher()

    async def start(self) -> None:
        await self.slots.start()
        await self.presence.start()

    async def stop(self) -> None:
        await self.presence.stop()
        await self.slots.stop()
        await self.hub.stop()
        await self.bus.stop()

    async def freeze(self) -> None:
        """Simulate a frozen process: until `start` it publishes and writes nothing, and its lease has expired."""
        await cancel(*self.presence._tasks, *self.slots._tasks)
        await self.bus.client("").delete(redis_keys.lease(self.name))

    async def enter(self, *people: str, room: str = "r") -> None:
        await self.hub.join(room, Identity(1, "epoch"), self.watcher, None, 0, lambda hello: b"")
        for person in people:
            self.presence.joined(room, person)
