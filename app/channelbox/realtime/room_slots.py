"""Places in rooms, really counted: for each room and process a number, under one lease for the process.

What a crashed process held is free again when its lease ends. Numbers are written whole, never added to, from what
this process knows of its own members: an emptied Redis heals, and nothing drifts. A process's calls to a Redis host go
out one pipeline after another, so that they cannot overtake each other, and all that came meanwhile shares the next.
"""

import asyncio
import functools
import logging
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError

from channelbox.realtime import keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.codes import Close, Code, Refused
from channelbox.realtime.supervision import STOP_SECONDS, cancel, supervise, within

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15
RENEW_SECONDS = 5
WAIT_SECONDS = 10  # of a client for its place, at most

# KEYS: the room's places. ARGV: this process, the places it holds, how many more it wants, the limit, lease prefix.
# Answers: how many of those it gets, and how many are taken by all processes.
TAKE = """
local others = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= ARGV[1] then
    if redis.call('EXISTS', ARGV[5] .. all[i]) == 1 then
      others = others + (tonumber(all[i + 1]) or 0)
    else
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
local held = tonumber(ARGV[2])
local got = math.max(0, math.min(tonumber(ARGV[3]), tonumber(ARGV[4]) - others - held))
if held + got > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], held + got)
  redis.call('EXPIRE', KEYS[1], 86400)
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return {got, others + held + got}
"""


@dataclass
class _Waiting:
    """Those who want a place in a room, and share a call and a deadline."""

    limit: int
    futures: list[asyncio.Future[bool]] = field(default_factory=list)
    deadline: asyncio.TimerHandle | None = None

    def fail(self, error: Exception) -> None:
        self.end()
        for future in self.futures:
            if not future.done():
                future.set_exception(error)

    def end(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()


class _Host:
    """What is to be written to one Redis host. One that is away or hangs holds up no other."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.waiting: dict[str, _Waiting] = {}
        self.changed: set[str] = set()
        self.wake = asyncio.Event()


class RoomSlots:
    """The places that this process's members hold."""

    def __init__(self, bus: Bus, process: str) -> None:
        self._bus = bus
        self._process = process
        self._held: dict[str, int] = {}
        self._hosts = [_Host(client) for client in bus.hosts.clients]
        self._tasks: list[asyncio.Task[None]] = []
        self.taken: dict[str, int] = {}  # by all processes, as last heard

    async def start(self) -> None:
        """Takes the lease and begins to renew it."""
        self._bus.on_restored(self.rewrite)
        self._tasks = [
            supervise("room slots renewed", self._renew),
            *(supervise("room slots written", functools.partial(self._write, host)) for host in self._hosts),
        ]

    async def stop(self) -> None:
        """Gives everything back."""
        await cancel(*self._tasks)
        await asyncio.gather(*map(self._give_back, self._hosts))

    async def _give_back(self, host: _Host) -> None:
        pipeline = host.client.pipeline(transaction=False)
        for name in [name for name in self._held if self._host(name) is host]:
            pipeline.hdel(keys.places(name), self._process)
        pipeline.delete(keys.lease(self._process))
        try:
            await within(STOP_SECONDS, pipeline.execute())
        except (RedisError, OSError) as error:
            logger.warning("Places cannot be given back (they end with the lease, in %d s): %r", LEASE_SECONDS, error)

    async def take(self, name: str, limit: int) -> None:
        """Takes a place in a room. Raises Refused when `limit` are taken already, or when nobody can tell."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        host = self._host(name)
        waiting = host.waiting.get(name)
        if waiting is None:
            waiting = host.waiting[name] = _Waiting(limit)
            waiting.deadline = loop.call_later(WAIT_SECONDS, self._late, host, name, waiting)
        waiting.limit = limit
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
                    "Places cannot be counted just now. Try again.",
                    retry_after=2,
                    close=Close.TRY_LATER,
                ) from error
            raise
        if not got:
            raise Refused(Code.ROOM_FULL, f"The room is full: {limit} are connected.", close=Close.ROOM_FULL)

    @staticmethod
    def _late(host: _Host, name: str, waiting: _Waiting) -> None:
        if host.waiting.get(name) is waiting:  # not asked for yet: who comes now has a deadline of its own
            del host.waiting[name]
        waiting.fail(TimeoutError())

    def give(self, name: str) -> None:
        """Gives a place back. The writing follows by itself."""
        held = self._held.get(name, 0) - 1
        if held > 0:
            self._held[name] = held
        else:
            self._held.pop(name, None)
        host = self._host(name)
        host.changed.add(name)
        host.wake.set()

    def rewrite(self) -> None:
        """Writes all that this process holds again: Redis may have lost it."""
        for name in self._held:
            self._host(name).changed.add(name)
        for host in self._hosts:
            host.wake.set()

    def _host(self, name: str) -> _Host:
        return self._hosts[self._bus.host(name)]

    async def _renew(self) -> None:
        while True:
            self.rewrite()
            await asyncio.sleep(RENEW_SECONDS)

    async def _write(self, host: _Host) -> None:
        while True:
            await host.wake.wait()
            host.wake.clear()
            waiting, host.waiting = host.waiting, {}
            changed, host.changed = host.changed | waiting.keys(), set()
            try:
                await self._exchange(host, changed, waiting)
            except Exception as error:
                for wait in waiting.values():
                    wait.fail(error)
                host.changed |= changed  # those who waited as well: perhaps they were given places, which nobody holds
                host.wake.set()
                if not isinstance(error, RedisError | OSError):
                    raise
                await asyncio.sleep(0.5)

    async def _exchange(self, host: _Host, names: set[str], waiting: dict[str, _Waiting]) -> None:
        """Writes what is held in these rooms, and takes what is waited for."""
        pipeline = host.client.pipeline(transaction=False)
        pipeline.set(keys.lease(self._process), 1, px=LEASE_SECONDS * 1000)
        asked = []
        for name in names:
            wait = waiting.get(name)
            futures = [f for f in wait.futures if not f.done()] if wait else []
            held = self._held.get(name, 0)
            limit = wait.limit if wait else 0
            pipeline.eval(TAKE, 1, keys.places(name), self._process, held, len(futures), limit, keys.lease(""))
            asked.append((name, held, futures))
        answers = await pipeline.execute(raise_on_error=False)
        if isinstance(answers[0], Exception):  # mostly no memory is left: then no room's answer is worth more
            raise answers[0]
        for wait in waiting.values():
            wait.end()
        for (name, held, futures), answer in zip(asked, answers[1:], strict=True):
            if isinstance(answer, Exception):  # this room's alone
                logger.warning("The places in %s cannot be written: %s", name, answer)
                host.changed.add(name)  # again with the next renewal
                if wait := waiting.get(name):
                    wait.fail(answer)
                continue
            got, taken = answer
            self._granted(name, futures, got)
            self.taken[name] = taken
            if self._held.get(name, 0) != held + got:
                host.changed.add(name)  # someone left, or gave up waiting, while this was on its way
                host.wake.set()
            if not self._held.get(name):
                self.taken.pop(name, None)

    def _granted(self, name: str, futures: list[asyncio.Future[bool]], got: int) -> None:
        for future in futures:
            if future.done():  # gave up waiting: its place goes to the next
                continue
            if got > 0:
                self._held[name] = self._held.get(name, 0) + 1
            future.set_result(got > 0)
            got -= 1
