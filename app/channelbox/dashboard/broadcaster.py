"""The dashboard of this process: one read, one aggregation and one encoding for all who look here."""

import asyncio
import logging

from redis.exceptions import RedisError

from channelbox.dashboard.aggregate import aggregate
from channelbox.dashboard.series import read_series
from channelbox.monitoring.process_reports import read_processes
from channelbox.realtime import redis_keys
from channelbox.realtime.background_tasks import once, supervise
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.errors import Close, Code, Refused
from channelbox.realtime.frames import json_frame
from channelbox.realtime.members import Member
from channelbox.version import package_version

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0  # s between two pushes when nobody asks
MIN_INTERVAL_SECONDS = 0.1  # s between two pushes in the whole installation, whoever asks how often
_WELCOME_FOR = 1.0  # s: those who come together get the same welcome


class Broadcaster:
    """Who looks at the dashboard through this process, and what they are sent."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._members: set[Member] = set()
        self._pushing: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._wanted = asyncio.Event()
        self._asked_at = 0.0
        self._read_at = float("-inf")  # when the newest push began to read
        self._pushed = asyncio.Event()
        self._newest: bytes | None = None
        self._welcome: tuple[float, asyncio.Future[bytes]] | None = None

    @staticmethod
    def current() -> "Broadcaster":
        """The broadcaster of the running event loop."""
        bus = Bus.current()
        return bus.share(Broadcaster, lambda: Broadcaster(bus))

    # --- Coming and going

    async def join(self, member: Member) -> None:
        """Writes the welcome and adds the member. Raises Refused when Redis does not answer."""
        try:
            welcome = await self._welcoming()
        except (RedisError, OSError) as error:
            raise Refused(
                Code.TRY_LATER,
                "The dashboard data cannot be read right now. Try again.",
                retry_after=2,
                close=Close.TRY_LATER,
            ) from error
        fresh = self._newest if self._now() - self._read_at < INTERVAL_SECONDS else None
        member.write_frames(welcome + (fresh or b""))
        self._members.add(member)
        if self._pushing is None:
            # Nobody waits for the confirmation: until then a question is answered by the push of the next second.
            self._bus.begin(redis_keys.dashboard(), lambda _: self._wanted.set())
            self._pushing = supervise("dashboard", self._push_on)

    def leave(self, member: Member) -> None:
        """Removes the member; with the last one everything ends."""
        self._members.discard(member)
        if self._members:
            return
        if self._pushing is not None:
            self._bus.forget(redis_keys.dashboard())
        for task in (self._pushing, self._asking):
            if task is not None:
                task.cancel()
        self._pushing = self._asking = None

    def ask(self) -> None:
        """Wants every client of the dashboard in the installation to get an update soon. Returns at once."""
        self._asked_at = self._now()
        if self._asking is None and self._members:
            self._asking = once("dashboard request", self._ask(), self._tasks)

    # --- What is sent

    async def _welcoming(self) -> bytes:
        if self._welcome is None or self._now() - self._welcome[0] > _WELCOME_FOR:
            self._welcome = self._now(), asyncio.ensure_future(self._read_welcome())
        reading = self._welcome[1]
        try:
            return await asyncio.shield(reading)
        except (RedisError, OSError):
            if self._welcome is not None and self._welcome[1] is reading:
                self._welcome = None
            raise

    async def _read_welcome(self) -> bytes:
        return json_frame({"type": "welcome", "version": package_version(), "series": await read_series()})

    async def _push_on(self) -> None:
        while True:
            started = self._now()
            self._wanted.clear()
            await self._push(started)
            if await _within(self._wanted, started + INTERVAL_SECONDS - self._now()):
                await asyncio.sleep(started + MIN_INTERVAL_SECONDS - self._now())

    async def _push(self, started: float) -> None:
        try:
            frame = json_frame({"data": aggregate(await read_processes())})
        except (RedisError, OSError) as error:
            # The clients see the age of what they have; the reporter tells the log.
            logger.debug("Cannot update the dashboard: %s", error)
            return
        except Exception:
            logger.exception("Cannot update the dashboard")
            return
        self._newest = frame
        for member in self._members:
            member.write_frames(frame)
        counters.delivered += len(self._members)
        self._read_at = started
        self._pushed.set()
        self._pushed = asyncio.Event()

    async def _ask(self) -> None:
        """Publishes until a push has begun after the newest question, or Redis is away."""
        try:
            while self._read_at < self._asked_at:
                pushed = self._pushed
                gate = redis_keys.dashboard_gate()
                if await self._bus.client(gate).set(gate, b"", nx=True, px=int(MIN_INTERVAL_SECONDS * 1000)):
                    await self._bus.publish(redis_keys.dashboard(), b"")
                await _within(pushed, MIN_INTERVAL_SECONDS)
        except (RedisError, OSError) as error:
            logger.debug("Cannot request a dashboard update: %s", error)
        finally:
            if self._asking is asyncio.current_task():
                self._asking = None

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Waits for an event, at most so long; whether it came. Python 3.11's `wait_for` may swallow a cancellation."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await event.wait()
    except TimeoutError:
        return False
