"""Presence: the people in each room. Counts people by name, not connections.

When its part of a room changes, a process writes the part to Redis for those who join later and publishes it for those
who are in the room, at most once a second. Redis may lose any of it. Each process therefore compares every 5 s what
Redis has with its own members, and publishes its part again where that differs. Until the other processes have had the
time to do the same, a part that is missing in Redis does not mean that its people are gone.

Each Redis host is written and read separately: one that is away or hangs holds up no room of another.
"""

import asyncio
import functools
import logging
import random
from collections.abc import Iterable

import msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError

from channelbox.realtime import redis_keys
from channelbox.realtime.background_tasks import STOP_SECONDS, cancel, failed, supervise, within
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.frames import json_frame
from channelbox.realtime.hub import Hub
from channelbox.realtime.hub_room import HubRoom
from channelbox.realtime.presence_state import EMPTY_PART, OtherPart, Part, People, checked, unpack
from channelbox.realtime.room_slices import slices
from channelbox.realtime.room_slots import LEASE_SECONDS

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 1.0
COMPARE_SECONDS = 5.0
# A part that was published within this time is newer than what is stored. After Redis has lost something, what is
# missing there is not taken for gone for the same time: every process compares in the meantime.
FRESH_SECONDS = 2 * COMPARE_SECONDS
EXPIRY_SECONDS = 86_400


class _Host:
    """Work that is due at one Redis host."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.opened: set[str] = set()  # rooms whose parts in other processes are not known yet
        self.compare_at = 0.0  # all rooms; on the event loop's clock
        self.wake = asyncio.Event()


class Presence:
    """The people of the rooms that are open in this process. The owner hands `opened` to the hub."""

    def __init__(self, bus: Bus, hub: Hub, process: str) -> None:
        self._bus = bus
        self._hub = hub
        self._process = process
        self._rooms: dict[str, People] = {}
        self._unpublished: set[str] = set()  # rooms whose part of this process is to be published
        self._changed_rooms: set[str] = set()  # rooms whose frame may have changed
        self._hosts = [_Host(client) for client in bus.hosts.clients]
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Start publishing and reading."""
        self._bus.on_restored(self._restored)
        for number in range(len(self._hosts)):
            self._tasks += [
                supervise("presence publishing", functools.partial(self._publish_changes, number)),
                supervise("presence comparison", functools.partial(self._compare, number)),
            ]

    async def stop(self) -> None:
        """Remove this process's people from all rooms."""
        await cancel(*self._tasks)
        for people in self._rooms.values():
            people.names.clear()
        publishes = (self._publish(host, self._on_host(host, self._rooms)) for host in range(len(self._hosts)))
        for error in await asyncio.gather(*(within(STOP_SECONDS, each) for each in publishes), return_exceptions=True):
            if error is not None:
                logger.warning("Cannot remove the presence entries of this process: %r", error)

    def joined(self, name: str, person: str) -> None:
        """Count a connection of a person, by name, in a room."""
        people = self._rooms.setdefault(name, People())
        people.names[person] += 1
        if people.names[person] == 1:
            self._own_part_changed(name)

    def left(self, name: str, person: str) -> None:
        """Undo one `joined`."""
        if (people := self._rooms.get(name)) is not None:
            people.names[person] -= 1
            if people.names[person] <= 0:
                del people.names[person]
                self._own_part_changed(name)

    def frame(self, name: str) -> bytes:
        """Return the newest presence frame of a room for a client that has just joined; empty before it is known."""
        people = self._rooms.get(name)
        return people.frame if people is not None and people.frame is not None else b""

    def _own_part_changed(self, name: str) -> None:
        self._unpublished.add(name)
        self._changed_rooms.add(name)

    def opened(self, name: str, room: HubRoom) -> None:
        """Read and publish the people of a room that the hub has opened."""
        room.on_presence = lambda part: self._on_part(name, *part)
        self._changed_rooms.add(name)
        self._rooms.setdefault(name, People())
        host = self._hosts[self._bus.host(name)]
        host.opened.add(name)
        host.wake.set()

    def _restored(self) -> None:
        """Publish and read everything again: this process may have missed anything, and Redis lost anything."""
        self._unpublished.update(self._rooms)
        for host in self._hosts:
            host.compare_at = 0.0
            host.wake.set()

    def _on_part(self, name: str, process: str, names: list[str] | None, count: int) -> None:
        """Take the part that another process has published. Raises ValueError if it is malformed."""
        people = self._rooms.get(name)
        part = checked(names, count)
        if people is not None and process != self._process:
            people.others[process] = OtherPart(part, self._loop.time())
            self._changed_rooms.add(name)

    def _on_host(self, host: int, names: Iterable[str]) -> list[str]:
        """Return the rooms that are on this host."""
        return [name for name in names if self._bus.host(name) == host]

    # --- Publishing

    async def _publish_changes(self, host: int) -> None:
        while True:
            await asyncio.sleep(PUBLISH_SECONDS)
            changed = self._on_host(host, self._changed_rooms)
            self._changed_rooms.difference_update(changed)
            for names in slices(changed):
                for name in names:
                    try:
                        self._write_frame(name)
                    except Exception as error:  # retry this room in the next round; the others go on
                        failed(logger, error, "Cannot announce who is in room %s", name)
                        self._changed_rooms.add(name)
                await asyncio.sleep(0)
            unpublished = self._on_host(host, self._unpublished)
            self._unpublished.difference_update(unpublished)
            try:
                await self._publish(host, unpublished)
            except Exception as error:
                self._unpublished.update(unpublished)
                if not isinstance(error, RedisError | OSError):
                    raise
                logger.debug("Cannot publish presence: %s", error)
            empty = [name for name, people in self._rooms.items() if not people.names and name not in self._hub.rooms]
            for name in self._on_host(host, empty):
                if name not in self._unpublished:
                    del self._rooms[name]

    def _write_frame(self, name: str) -> None:
        people, room = self._rooms.get(name), self._hub.rooms.get(name)
        if people is None or room is None:
            return
        names, count = people.all()
        content: dict[str, object] = {"type": "presence", "count": count}
        if names is not None:
            content["users"] = names
        frame = json_frame(content)
        if frame != people.frame:
            people.frame = frame
            room.write(frame, 0)

    async def _publish(self, host: int, names: list[str]) -> None:
        """Publish this process's part of these rooms of this host, after trying to write it for those who join later.

        Raises RedisError when it cannot be published. A part that cannot be written, perhaps because Redis is out of
        memory, is found missing at the next comparison.
        """
        for some in slices(names):
            await self._publish_slice(self._hosts[host].client, some)

    async def _publish_slice(self, client: Redis, names: list[str]) -> None:
        rooms = {name: people for name in names if (people := self._rooms.get(name)) is not None}
        if not rooms:
            return
        parts = {name: people.part() for name, people in rooms.items()}
        pipeline = client.pipeline(transaction=False)
        if any(count for _, count in parts.values()):  # a part counts only under its process's lease
            pipeline.set(redis_keys.lease(self._process), 1, px=LEASE_SECONDS * 1000)
        for name, part in parts.items():
            if part[1]:
                pipeline.hset(redis_keys.people(name), self._process, msgpack.packb(part))
                pipeline.expire(redis_keys.people(name), EXPIRY_SECONDS)
            else:
                pipeline.hdel(redis_keys.people(name), self._process)
        answers = await pipeline.execute(raise_on_error=False)
        if refused := next((answer for answer in answers if isinstance(answer, Exception)), None):
            logger.warning("Cannot write presence: %s", refused)
        for name, (_, count) in parts.items():
            rooms[name].written = bool(count) and refused is None
        await self._bus.publish_many(
            [(redis_keys.room(name), Envelope(presence=(self._process, *part)).pack()) for name, part in parts.items()]
        )

    # --- Comparing

    async def _compare(self, number: int) -> None:
        """Read newly opened rooms at once, and all rooms every 5 s."""
        host = self._hosts[number]
        while True:
            try:
                async with asyncio.timeout_at(host.compare_at):
                    await host.wake.wait()
            except TimeoutError:
                pass
            host.wake.clear()
            opened, host.opened = host.opened, set()
            if self._loop.time() >= host.compare_at:
                # With jitter: processes that lost the same Redis should not go on in step.
                host.compare_at = self._loop.time() + COMPARE_SECONDS * random.uniform(0.8, 1)  # noqa: S311 - no secret
                opened = set(self._rooms)
            names = self._on_host(number, opened)
            for some in slices(names):
                try:
                    await self._read(number, some)
                except (RedisError, OSError) as error:
                    logger.warning("Cannot read presence: %s", error)
                    break

    async def _read(self, number: int, names: list[str]) -> None:
        """Compare what Redis has of these rooms of a host with what this process knows. Raises RedisError."""
        client = self._hosts[number].client
        now = self._loop.time()
        asking = client.pipeline(transaction=False)
        for name in names:
            asking.hgetall(redis_keys.people(name))
        answers = await asking.execute(raise_on_error=False)
        stored = {
            name: {raw.decode(errors="replace"): part for raw, packed in found.items() if (part := unpack(packed))}
            for name, found in zip(names, answers, strict=True)
            if isinstance(found, dict)
        }
        processes = {process for parts in stored.values() for process in parts} - {self._process}
        dead = await self._dead(client, processes)
        cleaning = client.pipeline(transaction=False)
        for name, parts in stored.items():
            if (people := self._rooms.get(name)) is None:
                continue
            own = parts.pop(self._process, EMPTY_PART)
            if own != people.part():
                self._unpublished.add(name)
                if people.written and own == EMPTY_PART:
                    people.incomplete_until = now + FRESH_SECONDS
            for process in parts.keys() & dead:
                if self._is_stale(people, process, now):
                    del parts[process]
                    cleaning.hdel(redis_keys.people(name), process)
            if self._merge(people, parts, now):
                self._changed_rooms.add(name)
        await cleaning.execute(raise_on_error=False)

    @staticmethod
    def _is_stale(people: People, process: str, now: float) -> bool:
        """Return whether a process has published nothing about a room for a while, so that its stored part counts."""
        other = people.others.get(process)
        return other is None or other.heard_at + FRESH_SECONDS < now

    def _merge(self, people: People, stored: dict[str, Part], now: float) -> bool:
        """Adopt the stored parts of other processes. Returns whether any part changed."""
        changed = False
        for process, part in stored.items():
            if self._is_stale(people, process, now):
                before = people.others.get(process)
                changed |= before is None or before.part != part
                people.others[process] = OtherPart(part, float("-inf"))
        for process in people.others.keys() - stored.keys():
            if self._is_stale(people, process, now) and now >= people.incomplete_until:
                changed |= people.others.pop(process).part != EMPTY_PART
        return changed

    @staticmethod
    async def _dead(client: Redis, processes: set[str]) -> set[str]:
        """Return the processes without a lease.

        Every host has the leases, and each is looked up once, in however many rooms its process is.
        """
        ordered = sorted(processes)
        if not ordered:
            return set()
        pipeline = client.pipeline(transaction=False)
        for process in ordered:
            pipeline.exists(redis_keys.lease(process))
        return {process for process, alive in zip(ordered, await pipeline.execute(), strict=True) if not alive}
