"""Slots in rooms, counted exactly: a number for each room and process, under one lease for the process.

The slots of a crashed process are free again when its lease ends. Numbers are written as absolute values, never as
increments, from this process's own members: an emptied Redis recovers, and nothing drifts. The calls of
a process to a Redis host go out one pipeline after another, so that they cannot overtake each other; what comes
meanwhile shares the next pipeline. Each has a bounded number of rooms, and rooms that a client waits for do not wait
behind those that are only rewritten.
"""

import asyncio
import functools
import hashlib
import itertools
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from channelbox.realtime import redis_keys
from channelbox.realtime.background_tasks import STOP_SECONDS, cancel, supervise, within
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Close, Code, Refused
from channelbox.realtime.join_steps import JoinSteps
from channelbox.realtime.room_slices import MAX_ROOMS_AT_ONCE, slices

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15
RENEW_SECONDS = 5
WAIT_SECONDS = 10  # the longest that a client waits for its slot

TAKE_SCRIPT = Path(__file__).with_name("take_slots.lua").read_text()
TAKE_SCRIPT_SHA = hashlib.sha1(TAKE_SCRIPT.encode(), usedforsecurity=False).hexdigest()  # its name in Redis

T = TypeVar("T")


@dataclass
class _Waiting:
    """Clients that wait for a slot in one room, and share a call and a deadline."""

    limit: int
    reserved: int = 0  # the last slots, which those in `restricted` do not get
    futures: list[asyncio.Future[bool]] = field(default_factory=list)
    restricted: list[asyncio.Future[bool]] = field(default_factory=list)
    deadline: asyncio.TimerHandle | None = None

    def fail(self, error: Exception) -> None:
        self.end()
        for future in self.futures + self.restricted:
            if not future.done():
                future.set_exception(error)

    def end(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()


class _Host:
    """Pending writes to one Redis host. A host that is away or hangs holds up no other."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.waiting: dict[str, _Waiting] = {}
        self.changed: dict[str, None] = {}  # rooms to be written, in order
        self.failed: set[str] = set()  # rooms that could not be written; retried with the next renewal
        self.wake = asyncio.Event()

    def change(self, name: str) -> None:
        """Have the number of slots held in a room written."""
        self.changed[name] = None
        self.wake.set()


class RoomSlots:
    """The slots that the members of this process hold."""

    def __init__(self, bus: Bus, process: str) -> None:
        self._bus = bus
        self._process = process
        self._held: dict[str, int] = {}
        self._hosts = [_Host(client) for client in bus.hosts.clients]
        self._tasks: list[asyncio.Task[None]] = []
        self.taken: dict[str, int] = {}  # by room: slots held by all processes, as Redis last reported

    async def start(self) -> None:
        """Take the lease and start renewing it."""
        self._bus.on_restored(self.rewrite)
        self._tasks = [
            supervise("room slots renewed", self._renew),
            *(supervise("room slots written", functools.partial(self._write, host)) for host in self._hosts),
        ]

    async def stop(self) -> None:
        """Release all slots."""
        await cancel(*self._tasks)
        await asyncio.gather(*map(self._release, self._hosts))

    async def _release(self, host: _Host) -> None:
        try:
            await within(STOP_SECONDS, self._delete(host))
        except (RedisError, OSError) as error:
            logger.warning("Cannot release room slots (they expire with the lease, in %d s): %r", LEASE_SECONDS, error)

    async def _delete(self, host: _Host) -> None:
        """Delete the lease, which frees all slots, and then the numbers that are written under it."""
        await host.client.delete(redis_keys.lease(self._process))
        for names in slices(name for name in self._held if self._host(name) is host):
            pipeline = host.client.pipeline(transaction=False)
            for name in names:
                pipeline.hdel(redis_keys.places(name), self._process)
            await pipeline.execute()

    async def take(self, name: str, limit: int, reserved: int = 0) -> None:
        """Take a slot in a room that has `limit` of them, of which the last `reserved` are not for this client.

        Raises Refused when all the others are taken, or when the slots cannot be counted now.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        host = self._host(name)
        waiting = host.waiting.get(name)
        if waiting is None:
            waiting = host.waiting[name] = _Waiting(limit)
            waiting.deadline = loop.call_later(WAIT_SECONDS, self._time_out, host, name, waiting)
        waiting.limit = limit
        if reserved:
            waiting.reserved = reserved
            waiting.restricted.append(future)
        else:
            waiting.futures.append(future)
        host.wake.set()
        try:
            got = await future
        except BaseException as error:
            if future.done() and not future.cancelled() and future.exception() is None and future.result():
                self.give(name)
            if isinstance(error, Exception):
                raise Refused(
                    Code.TRY_LATER,
                    "The room cannot be entered right now. Try again.",
                    retry_after=2,
                    close=Close.TRY_LATER,
                ) from error
            raise
        if not got:
            full = f"full for guests (limit: {limit - reserved})" if reserved else f"full (limit: {limit})"
            raise Refused(Code.ROOM_FULL, f"The room is {full}.", close=Close.ROOM_FULL)

    @staticmethod
    def _time_out(host: _Host, name: str, waiting: _Waiting) -> None:
        if host.waiting.get(name) is waiting:  # not sent to Redis yet: later clients get a deadline of their own
            del host.waiting[name]
        waiting.fail(TimeoutError())

    def give(self, name: str) -> None:
        """Release a slot. The new number is written in the background."""
        held = self._held.get(name, 0) - 1
        if held > 0:
            self._held[name] = held
        else:
            self._held.pop(name, None)
        self._host(name).change(name)

    def rewrite(self) -> None:
        """Write all numbers of this process again, a few rooms at a time: Redis may have lost them."""
        for name in self._held:
            self._host(name).change(name)
        for host in self._hosts:
            host.wake.set()  # the lease is written in any case

    def _host(self, name: str) -> _Host:
        return self._hosts[self._bus.host(name)]

    async def _renew(self) -> None:
        """Write the leases and all rooms again in each period, spread over it."""
        while True:
            for host in self._hosts:
                host.changed.update(dict.fromkeys(host.failed))
                host.failed.clear()
                host.wake.set()
            held = list(slices(self._held))
            for names in held:
                for name in names:
                    if name in self._held:
                        self._host(name).change(name)
                await asyncio.sleep(RENEW_SECONDS / len(held))
            if not held:
                await asyncio.sleep(RENEW_SECONDS)

    async def _write(self, host: _Host) -> None:
        while True:
            await host.wake.wait()
            host.wake.clear()
            waiting = _pop_first(host.waiting, MAX_ROOMS_AT_ONCE)
            behind = len(host.waiting)
            for name in waiting:
                host.changed.pop(name, None)
            names = [*waiting, *_pop_first(host.changed, MAX_ROOMS_AT_ONCE)]
            if host.waiting or host.changed:
                host.wake.set()
            try:
                await self._exchange(host, names, waiting)
            except Exception as error:
                for wait in [*waiting.values(), *_pop_first(host.waiting, behind).values()]:
                    wait.fail(error)
                # Rooms with waiting clients too: these may have been given slots, which nobody holds now.
                host.changed.update(dict.fromkeys(names))
                host.wake.set()
                if not isinstance(error, RedisError | OSError):
                    raise
                await asyncio.sleep(0.5)

    async def _exchange(self, host: _Host, names: list[str], waiting: dict[str, _Waiting]) -> None:
        """Write the numbers of slots held in these rooms, and take the slots that clients wait for."""
        asked: list[tuple[str, int, list[asyncio.Future[bool]], list[asyncio.Future[bool]]]] = []
        calls: list[tuple[Any, ...]] = []
        for name in names:
            wait = waiting.get(name)
            futures = [f for f in wait.futures if not f.done()] if wait else []
            restricted = [f for f in wait.restricted if not f.done()] if wait else []
            held = self._held.get(name, 0)
            limit, reserved = (wait.limit, wait.reserved) if wait else (0, 0)
            wanted = (len(futures), limit, redis_keys.lease(""), len(restricted), reserved)
            calls.append((redis_keys.places(name), self._process, held, *wanted))
            asked.append((name, held, futures, restricted))
        answers = await self._call(host, calls)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            await host.client.script_load(TAKE_SCRIPT)
            answers = await self._call(host, calls)  # numbers are absolute: a second time changes nothing
        if isinstance(answers[0], Exception):  # mostly out of memory: then no room's answer is worth more
            raise answers[0]
        for wait in waiting.values():
            wait.end()
        for (name, held, futures, restricted), answer in zip(asked, answers[1:], strict=True):
            if isinstance(answer, Exception):  # of this room alone
                logger.warning("Cannot write the slots of room %s: %s", name, answer)
                host.failed.add(name)
                if wait := waiting.get(name):
                    wait.fail(answer)
                continue
            got, got_restricted, taken = answer
            self._grant(name, futures, got)
            self._grant(name, restricted, got_restricted)
            self.taken[name] = taken
            if self._held.get(name, 0) != held + got + got_restricted:
                host.change(name)  # a client left, or gave up waiting, while this was in flight
            if not self._held.get(name):
                self.taken.pop(name, None)

    async def _call(self, host: _Host, calls: list[tuple[Any, ...]]) -> list[Any]:
        """Write the lease, and call the script with each of these argument lists. Returns the answers and errors."""
        pipeline = host.client.pipeline(transaction=False)
        pipeline.set(redis_keys.lease(self._process), 1, px=LEASE_SECONDS * 1000)
        for call in calls:
            pipeline.evalsha(TAKE_SCRIPT_SHA, 1, *call)
        return list(await pipeline.execute(raise_on_error=False))

    def _grant(self, name: str, futures: list[asyncio.Future[bool]], got: int) -> None:
        steps = JoinSteps.of(asyncio.get_running_loop())
        for future in futures:
            if future.done():  # gave up waiting: its slot goes to the next
                continue
            if got > 0:
                self._held[name] = self._held.get(name, 0) + 1
            steps.go_on(functools.partial(self._answer, name, future, got > 0))
            got -= 1

    def _answer(self, name: str, future: asyncio.Future[bool], got: bool) -> None:
        if not future.done():
            future.set_result(got)
        elif got:  # gave up while the answer was in flight
            self.give(name)


def _pop_first(rooms: dict[str, T], count: int) -> dict[str, T]:
    """Remove and return the first `count` of these rooms."""
    return {name: rooms.pop(name) for name in list(itertools.islice(rooms, count))}
