"""Who is in a room: each process tells its part when it changes, at most once a second.

Each Redis host is told and read by itself: one that is away or hangs holds up no room of another.
"""

import asyncio
import collections
import logging
from collections.abc import Iterable

import msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError

from channelbox.realtime import keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.frames import json_frame
from channelbox.realtime.hub import Hub
from channelbox.realtime.room import Room

logger = logging.getLogger(__name__)

GATHER_SECONDS = 1.0
NAMED_MOST = 100  # above, only a count: a list of thousands helps nobody and costs each of them
CHECK_SECONDS = 10.0

Part = tuple[list[str] | None, int]


class _Here:
    """A room's people: those of this process by name and connections, the other processes' parts."""

    def __init__(self) -> None:
        self.names: collections.Counter[str] = collections.Counter()
        self.parts: dict[str, Part] = {}
        self.frame: bytes | None = None

    def part(self) -> Part:
        return (sorted(self.names) if len(self.names) <= NAMED_MOST else None), len(self.names)

    def all(self) -> Part:
        parts = list(self.parts.values())
        if all(names is not None for names, _ in parts):
            together = sorted({name for names, _ in parts for name in names or ()})
            return (together if len(together) <= NAMED_MOST else None), len(together)
        return None, sum(count for _, count in parts)


class Presence:
    """The people of the rooms that are open here."""

    def __init__(self, bus: Bus, hub: Hub, process: str) -> None:
        self._bus = bus
        self._hub = hub
        self._process = process
        self._rooms: dict[str, _Here] = {}
        self._own_changed: set[str] = set()
        self._heard: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        hub.on_open = self._open

    async def start(self) -> None:
        self._bus.on_restored(self._again)
        for host in range(len(self._bus.hosts.clients)):
            self._tasks += [asyncio.ensure_future(self._gather(host)), asyncio.ensure_future(self._check(host))]

    async def stop(self) -> None:
        """Takes this process's people out of all rooms."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for here in self._rooms.values():
            here.names.clear()
        hosts = range(len(self._bus.hosts.clients))
        told = (self._tell(host, self._of(host, self._rooms)) for host in hosts)
        for error in await asyncio.gather(*told, return_exceptions=True):
            if error is not None:
                logger.warning("Presence cannot be taken back: %s", error)

    def came(self, name: str, person: str) -> None:
        here = self._rooms.setdefault(name, _Here())
        here.names[person] += 1
        if here.names[person] == 1:
            self._own_changed.add(name)

    def went(self, name: str, person: str) -> None:
        if (here := self._rooms.get(name)) is not None:
            here.names[person] -= 1
            if here.names[person] <= 0:
                del here.names[person]
                self._own_changed.add(name)

    def frame(self, name: str) -> bytes:
        """Who is here, for somebody who has just come; empty before it is known."""
        here = self._rooms.get(name)
        return here.frame if here is not None and here.frame is not None else b""

    def _open(self, name: str, room: Room) -> None:
        room.on_presence = lambda told: self._hear(name, *told)
        self._heard.add(name)
        self._rooms.setdefault(name, _Here())
        self._tasks.append(task := asyncio.ensure_future(self._read(self._bus.host(name), [name])))
        task.add_done_callback(self._tasks.remove)

    def _again(self) -> None:
        self._own_changed.update(self._rooms)

    def _hear(self, name: str, process: str, names: list[str] | None, count: int) -> None:
        here = self._rooms.get(name)
        if here is None:
            return
        if count:
            here.parts[process] = (names, count)
        else:
            here.parts.pop(process, None)
        self._heard.add(name)

    def _of(self, host: int, names: Iterable[str]) -> list[str]:
        """Those of these rooms that are on this host."""
        return [name for name in names if self._bus.host(name) == host]

    async def _gather(self, host: int) -> None:
        while True:
            await asyncio.sleep(GATHER_SECONDS)
            changed = self._of(host, self._own_changed)
            self._own_changed.difference_update(changed)
            try:
                await self._tell(host, changed)
            except (RedisError, OSError):
                self._own_changed.update(changed)
            heard = self._of(host, self._heard)
            self._heard.difference_update(heard)
            for name in heard:
                self._emit(name)
            empty = [name for name, here in self._rooms.items() if not here.names and name not in self._hub.rooms]
            for name in self._of(host, empty):
                if name not in self._own_changed:
                    del self._rooms[name]

    def _emit(self, name: str) -> None:
        here, room = self._rooms.get(name), self._hub.rooms.get(name)
        if here is None or room is None:
            return
        names, count = here.all()
        content: dict[str, object] = {"type": "presence", "count": count}
        if names is not None:
            content["users"] = names
        frame = json_frame(content)
        if frame != here.frame:
            here.frame = frame
            room.write(frame, 0)

    async def _tell(self, host: int, names: Iterable[str]) -> None:
        """Writes this process's part of these rooms of this host, and tells the other processes."""
        publishes = []
        pipeline = self._bus.hosts.clients[host].pipeline(transaction=False)
        for name in names:
            here = self._rooms.get(name)
            if here is None:
                continue
            people, count = here.part()
            if count:
                pipeline.hset(keys.people(name), self._process, msgpack.packb((people, count)))
                pipeline.expire(keys.people(name), 86_400)
            else:
                pipeline.hdel(keys.people(name), self._process)
            envelope = Envelope(presence=(self._process, people, count))
            publishes.append((keys.room(name), envelope.pack()))
        if publishes:
            await pipeline.execute()
            await self._bus.publish_many(publishes)

    async def _check(self, host: int) -> None:
        """Takes the people of processes that died out of the rooms."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            others = [name for name, here in self._rooms.items() if here.parts.keys() - {self._process}]
            await self._read(host, self._of(host, others))

    async def _read(self, host: int, names: list[str]) -> None:
        """The parts that Redis has of these rooms of this host, without those of dead processes."""
        if not names:
            return
        client = self._bus.hosts.clients[host]
        try:
            before = {name: dict(here.parts) for name in names if (here := self._rooms.get(name)) is not None}
            asking = client.pipeline(transaction=False)
            for name in names:
                asking.hgetall(keys.people(name))
            answers = zip(names, await asking.execute(), strict=True)
            stored = {name: {raw.decode(): _part(packed) for raw, packed in parts.items()} for name, parts in answers}
            processes = {process for parts in stored.values() for process in parts} - {self._process}
            dead = await self._dead(client, processes)
            cleaning = client.pipeline(transaction=False)
            for name, parts in stored.items():
                for process in dead & parts.keys():
                    del parts[process]
                    cleaning.hdel(keys.people(name), process)
                if (here := self._rooms.get(name)) is not None:
                    # What was told while this was read is newer.
                    parts = _newer(parts, before.get(name, {}), here.parts)
                    if here.parts != parts:
                        here.parts = parts
                        self._heard.add(name)
            await cleaning.execute()
        except (RedisError, OSError, ValueError) as error:
            logger.warning("Presence cannot be read: %s", error)

    @staticmethod
    async def _dead(client: Redis, processes: set[str]) -> set[str]:
        """Those without a lease, which is on every host: asked once for each, however many rooms it has people in."""
        ordered = sorted(processes)
        if not ordered:
            return set()
        pipeline = client.pipeline(transaction=False)
        for process in ordered:
            pipeline.exists(keys.lease(process))
        return {process for process, alive in zip(ordered, await pipeline.execute(), strict=True) if not alive}


def _part(packed: bytes) -> Part:
    people, count = msgpack.unpackb(packed)
    return people, count


def _newer(stored: dict[str, Part], before: dict[str, Part], now: dict[str, Part]) -> dict[str, Part]:
    told = {process for process in before.keys() | now.keys() if before.get(process) != now.get(process)}
    kept = {process: part for process, part in stored.items() if process not in told}
    return kept | {process: now[process] for process in told if process in now}
