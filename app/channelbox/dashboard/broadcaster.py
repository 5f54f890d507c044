"""The dashboard's updates in this process: one read, one aggregation and one encoding for all its members."""

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

INTERVAL_SECONDS = 1.0  # between two pushes when no client asks
MIN_INTERVAL_SECONDS = 0.1  # between two pushes in the whole installation, however often clients ask
_WELCOME_SECONDS = 1.0  # for which a welcome is reused: members who join together get the same one


class Broadcaster:
    """Sends the dashboard's updates to its members in this process."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._members: set[Member] = set()
        self._push_task: asyncio.Task[None] | None = None
        self._request_task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._requested = asyncio.Event()
        self._requested_at = 0.0
        self._read_at = float("-inf")  # when the newest push began to read
        self._pushed = asyncio.Event()
        self._newest: bytes | None = None
        self._welcome: tuple[float, asyncio.Future[bytes]] | None = None

    @staticmethod
    def current() -> "Broadcaster":
        """Return the broadcaster of the running event loop."""
        bus = Bus.current()
        return bus.share(Broadcaster, lambda: Broadcaster(bus))

    # --- Joining and leaving

    async def join(self, member: Member) -> None:
        """Write the welcome and add the member. Raises Refused when Redis does not answer."""
        try:
            welcome = await self._recent_welcome()
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
        if self._push_task is None:
            # Without waiting for confirmation: until then, a request is answered by the next second's push.
            self._bus.begin(redis_keys.dashboard(), lambda _: self._requested.set())
            self._push_task = supervise("dashboard", self._push_loop)

    def leave(self, member: Member) -> None:
        """Remove a member. With the last one, updates end."""
        self._members.discard(member)
        if self._members:
            return
        if self._push_task is not None:
            self._bus.forget(redis_keys.dashboard())
        for task in (self._push_task, self._request_task):
            if task is not None:
                task.cancel()
        self._push_task = self._request_task = None

    def request_update(self) -> None:
        """Request an update soon for every client of the dashboard in the installation. Returns at once."""
        self._requested_at = self._now()
        if self._request_task is None and self._members:
            self._request_task = once("dashboard request", self._publish_requests(), self._tasks)

    # --- Sending

    async def _recent_welcome(self) -> bytes:
        if self._welcome is None or self._now() - self._welcome[0] > _WELCOME_SECONDS:
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

    async def _push_loop(self) -> None:
        while True:
            started = self._now()
            self._requested.clear()
            await self._push(started)
            if await _wait_for(self._requested, started + INTERVAL_SECONDS - self._now()):
                await asyncio.sleep(started + MIN_INTERVAL_SECONDS - self._now())

    async def _push(self, started: float) -> None:
        try:
            frame = json_frame({"data": aggregate(await read_processes())})
        except (RedisError, OSError) as error:
            # Clients see the age of their figures; the reporter logs the outage.
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

    async def _publish_requests(self) -> None:
        """Publish requests until a push has begun after the newest `request_update`, or Redis is unavailable."""
        try:
            while self._read_at < self._requested_at:
                pushed = self._pushed
                gate = redis_keys.dashboard_gate()
                if await self._bus.client(gate).set(gate, b"", nx=True, px=int(MIN_INTERVAL_SECONDS * 1000)):
                    await self._bus.publish(redis_keys.dashboard(), b"")
                await _wait_for(pushed, MIN_INTERVAL_SECONDS)
        except (RedisError, OSError) as error:
            logger.debug("Cannot request a dashboard update: %s", error)
        finally:
            if self._request_task is asyncio.current_task():
                self._request_task = None

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


async def _wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event and return whether it came within `seconds`.

    In the place of `asyncio.wait_for`, which may swallow a cancellation in Python 3.11.
    """
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await event.wait()
    except TimeoutError:
        return False
