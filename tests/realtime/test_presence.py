"""Who is here, over real Redis: two Presences are two processes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.realtime.two_hosts import hosts_of, one_of_each
from tests.servers import RedisServer

from channelbox.realtime import keys, presence
from channelbox.realtime.bus import Bus
from channelbox.realtime.frames import payloads
from channelbox.realtime.hosts import Host
from channelbox.realtime.hub import Hub, Run
from channelbox.realtime.presence import Presence
from channelbox.realtime.room_slots import RoomSlots


class Nothing:
    """A record in which nothing was ever said."""

    async def open(self, name: str) -> tuple[int, Run]:
        return 1, Run(1, 0, b"")

    async def after(self, name: str, seq: int, most: int) -> Run:
        return Run(seq + 1, seq, b"")


class Watcher:
    """A member that remembers the newest presence that it was told."""

    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self.count = 0
        self._more = asyncio.Event()

    def write_frames(self, frames: bytes) -> None:
        for _, payload in payloads(frames):
            content = json.loads(bytes(payload))
            if content.get("type") == "presence":
                self.told = content
                self.count += 1
                self._more.set()

    async def until(self, *users: str) -> None:
        async with asyncio.timeout(15):
            while self.told.get("users") != sorted(users):
                self._more.clear()
                await self._more.wait()


class Process:
    def __init__(self, name: str, hosts: list[Host] | None = None) -> None:
        # A bus of its own: one process has one handler a room.
        self.bus = Bus(hosts)
        self.hub = Hub(self.bus, Nothing(), name)
        self.slots = RoomSlots(self.bus, name)
        self.presence = Presence(self.bus, self.hub, name)
        self.watcher = Watcher()

    async def start(self) -> None:
        await self.slots.start()
        await self.presence.start()

    async def stop(self) -> None:
        await self.presence.stop()
        await self.slots.stop()
        await self.hub.stop()
        await self.bus.stop()

    async def enter(self, *people: str, room: str = "r") -> None:
        await self.hub.join(room, 1, self.watcher, None, 0, lambda newest, first, resumed: b"")
        for person in people:
            self.presence.came(room, person)


@pytest.fixture
async def processes() -> AsyncIterator[list[Process]]:
    processes = [Process("one"), Process("two")]
    for process in processes:
        await process.start()
    yield processes
    for process in processes:
        await process.stop()


async def test_it_works(processes: list[Process]) -> None:
    one, two = processes
    await one.enter("ann")
    await two.enter("bob")
    await one.watcher.until("ann", "bob")
    await two.watcher.until("ann", "bob")
    two.presence.went("r", "bob")
    await one.watcher.until("ann")


async def test_two_tabs_are_one_person_until_both_are_closed(processes: list[Process]) -> None:
    one, _ = processes
    await one.enter("ann", "ann", "bob")
    await one.watcher.until("ann", "bob")
    one.presence.went("r", "ann")
    one.presence.went("r", "bob")
    await one.watcher.until("ann")


async def test_changes_of_a_second_are_told_together(processes: list[Process]) -> None:
    one, _ = processes
    await one.enter(*(f"p{number:02}" for number in range(50)))
    await one.watcher.until(*(f"p{number:02}" for number in range(50)))
    assert one.watcher.count <= 2


async def test_above_a_hundred_only_the_count_is_told(processes: list[Process]) -> None:
    one, two = processes
    await one.enter(*(f"a{number}" for number in range(60)))
    await two.enter(*(f"b{number}" for number in range(60)))
    async with asyncio.timeout(15):
        while one.watcher.told != {"type": "presence", "count": 120}:
            await asyncio.sleep(0.05)


async def test_the_people_of_a_process_that_died_are_taken_out(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "CHECK_SECONDS", 0.2)
    one, _ = processes
    await one.enter("ann")
    dead = Process("dead")
    await dead.start()
    await dead.enter("bob")
    await one.watcher.until("ann", "bob")
    for task in [*dead.presence._tasks, *dead.slots._tasks]:  # killed: nothing is taken back
        task.cancel()
    await dead.bus.client("").delete(keys.lease("dead"))
    await one.presence._read(0, ["r"])
    await one.watcher.until("ann")
    await dead.hub.stop()
    await dead.bus.stop()


async def test_stopping_takes_the_own_people_out(processes: list[Process]) -> None:
    one, _ = processes
    await one.enter("ann")
    other = Process("other")
    await other.start()
    await other.enter("bob")
    await one.watcher.until("ann", "bob")
    await other.stop()
    await one.watcher.until("ann")


@pytest.mark.parametrize("gone", [0, 1])
async def test_who_is_here_is_told_while_the_redis_of_other_rooms_hangs(
    new_redis: Callable[..., RedisServer], gone: int
) -> None:
    servers = [new_redis(), new_redis()]
    one, two = (Process(name, hosts_of(servers, 9)) for name in ("one", "two"))
    rooms = one_of_each(one.bus)
    for process in (one, two):
        await process.start()
        await process.enter(process.hub._process, room=rooms[1 - gone])
    one.presence.came(rooms[gone], "eve")
    await one.watcher.until("one", "two")
    servers[gone].freeze()
    one.presence.came(rooms[gone], "joe")  # cannot be told now
    two.presence.went(rooms[1 - gone], "two")
    async with asyncio.timeout(6):
        await one.watcher.until("one")
    servers[gone].thaw()
    for process in (one, two):
        await process.stop()
