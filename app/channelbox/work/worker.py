"""The worker: takes messages from worker channels and gives them to their consumers, one batch after another."""

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import uvloop
from redis.exceptions import RedisError

from channelbox.realtime.background_tasks import supervise
from channelbox.realtime.counters import counters
from channelbox.sd_notify import notify, watchdog_seconds
from channelbox.work.consumer_runner import Application, ConsumerRunner, Message
from channelbox.work.lifespan_runner import lifespan
from channelbox.work.queue import WorkLayer

logger = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 50  # messages at once, for a consumer that takes batches: few enough that two workers seldom share a room
WAIT_SECONDS = 1.0  # for a message; a stop is noticed after this at the latest
MAX_PAUSE_SECONDS = 2.0  # s between two attempts to reach what is away
STALL_SECONDS = 60.0  # s in one step before the watchdog is no longer told that all is well
SLOW_SECONDS = 0.1  # in hand, before more is taken beside it


class ChannelList(NamedTuple):
    """One list of a worker channel. `host`: the index of its Redis host; None: the one that the name falls to."""

    channel: str
    host: int | None = None
    bulk: bool = False

    def __str__(self) -> str:
        name = f"{self.channel} (bulk)" if self.bulk else self.channel
        return name if self.host is None else f"{name} on Redis host {self.host}"


class Worker:
    """Runs the consumers of some channels. Every list of a channel is worked on by itself, in its order.

    Nothing is taken from a list before the last is handled: what waits is there for every worker, and a worker that
    dies loses no more than it had in hand. What a consumer class may say of itself:

    - `batch = True`: it gets up to 50 messages as one, `{"type": "batch", "channel": name, "messages": [...]}`. Any
      other gets them one by one.
    - `bulk = True`: the channel's bulk list is worked on as well, beside the first.
    - `every_host = True`: the channel has its lists on each Redis host, and a host that is away holds up no other.
    - `in_hand = 2`: where handling takes longer than 0.1 s, more is taken from the list meanwhile and goes to another
      instance, until so many are busy.
    - a coroutine `ready()` is awaited before its channel is read.

    A message whose handling fails is logged, and the next one goes to a new instance.

    SIGTERM and SIGINT let it finish what it has in hand; a second one does not.
    """

    def __init__(self, application: Application, channels: Sequence[str], channel_layer: WorkLayer) -> None:
        self.application = application
        self.channels = list(dict.fromkeys(channels))
        self.channel_layer = channel_layer
        self._stopping = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._lines: list[asyncio.Task[None]] = []
        self._handling: set[asyncio.Task[None]] = set()
        self._handlers: list[ConsumerRunner] = []
        self._starting = set(self.channels)
        self._moved: dict[ChannelList | ConsumerRunner, float] = {}

    @property
    def ready(self) -> bool:
        """Whether every consumer is ready and a list of every channel has answered once."""
        return not self._starting

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._stopping.is_set()

    def run(self) -> None:
        """Works until it is told to stop."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.serve())

    async def serve(self) -> None:
        """The same, on a running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            async with lifespan(self.application, channels=self.channels):
                await self._serve()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        logger.info("Stopped.")

    async def _serve(self) -> None:
        heart = supervise("watchdog", lambda: self._beat(watchdog_seconds()))
        try:
            async with self._group:
                self._lines = [self._group.create_task(self._work(line), name=str(line)) for line in self._all_lines()]
        finally:
            heart.cancel()
            await asyncio.gather(*(handler.close() for handler in self._handlers))

    def _all_lines(self) -> list[ChannelList]:
        hosts = self.channel_layer.hosts
        lines = []
        for channel in self.channels:
            consumer = consumer_class(self.application, channel)
            for bulk in (False, True) if getattr(consumer, "bulk", False) else (False,):
                if hosts > 1 and getattr(consumer, "every_host", False):
                    lines += [ChannelList(channel, host, bulk) for host in range(hosts)]
                else:
                    lines.append(ChannelList(channel, bulk=bulk))
        return lines

    def stop(self) -> None:
        """Ends the work after what is in hand. The second call ends it at once."""
        if self.stopping:
            for task in (*self._lines, *self._handling):
                task.cancel()
            return
        notify("STOPPING=1")
        counters.draining = True
        logger.info("Stopping after what is in hand.")
        self._stopping.set()
        # An answer on its way may hold messages, so waiting for it is ended only when it does not come.
        asyncio.get_running_loop().call_later(WAIT_SECONDS + 1, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        for task in self._lines:
            task.cancel()

    # --- One list

    async def _work(self, line: ChannelList) -> None:
        channel, host, bulk = line
        consumer = consumer_class(self.application, channel)
        takes_batches = getattr(consumer, "batch", False)
        limit = BATCH if takes_batches else 1
        if ready := getattr(consumer, "ready", None):
            await self._persist(line, f"The consumer of {channel} is not ready", ready)
        free: asyncio.Queue[ConsumerRunner] = asyncio.Queue()
        for _ in range(getattr(consumer, "in_hand", 1)):
            handler = ConsumerRunner(self.application, channel)
            self._handlers.append(handler)
            free.put_nowait(handler)
        while not self.stopping:
            handler = await free.get()
            messages = await self._persist(
                line,
                f"The queue of {line} does not answer",
                lambda: self.channel_layer.receive_many(channel, limit, WAIT_SECONDS, host, bulk=bulk),
            )
            if messages is not None:
                self._started(channel)
            if not messages:
                free.put_nowait(handler)
                continue
            parcels = _parcels(channel, messages, takes_batches)
            task = self._group.create_task(self._handle(line, handler, parcels, free))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)
            await asyncio.wait([task], timeout=SLOW_SECONDS)

    async def _handle(
        self, line: ChannelList, handler: ConsumerRunner, parcels: list[Message], free: asyncio.Queue[ConsumerRunner]
    ) -> None:
        try:
            for parcel in parcels:
                self._moved[handler] = time.monotonic()
                try:
                    await handler.handle(parcel)
                except Exception:
                    logger.exception("A %r of %s failed", parcel["type"], line)
                counters.handled += len(parcel["messages"]) if parcel["type"] == "batch" else 1
        finally:
            self._moved.pop(handler, None)
            free.put_nowait(handler)

    async def _persist(self, line: ChannelList, trouble: str, attempt: Callable[[], Awaitable[T]]) -> T | None:
        """Tries until it succeeds, or until the worker stops: then None. Says when trouble begins and when it ends."""
        since, failures = time.monotonic(), 0
        try:
            while not self.stopping:
                self._moved[line] = time.monotonic()
                try:
                    result = await attempt()
                except Exception as error:
                    if not failures:
                        expected = isinstance(error, RedisError | OSError)
                        reason = str(error) or type(error).__name__
                        logger.warning("%s, trying until it does: %s", trouble, reason, exc_info=not expected)
                        notify(f"STATUS={trouble}: {reason}".replace("\n", " "))
                    failures += 1
                    await self._pause(min(MAX_PAUSE_SECONDS, 0.1 * 2 ** min(failures, 10)))
                else:
                    if failures:
                        logger.warning("%s: over after %.1f s.", trouble, time.monotonic() - since)
                        notify(self._status())
                    return result
            return None
        finally:
            self._moved.pop(line, None)

    async def _pause(self, seconds: float) -> None:
        # Not `wait_for`: Python 3.11's may swallow a cancellation.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * random.uniform(0.5, 1)):  # noqa: S311
                await self._stopping.wait()

    # --- What systemd is told

    def _started(self, channel: str) -> None:
        if channel in self._starting and not self.stopping:
            self._starting.remove(channel)
            if self.ready:
                logger.info("Working on %s.", ", ".join(self.channels))
                notify("READY=1\n" + self._status())

    def _status(self) -> str:
        return "STATUS=Working on " + ", ".join(self.channels)

    async def _beat(self, every: float | None) -> None:
        """Tells the watchdog that all moves: each step handles, waits or tries again within `STALL_SECONDS`."""
        while every is not None:
            now = time.monotonic()
            stuck = [str(each) for each, moved in self._moved.items() if now - moved > STALL_SECONDS]
            if stuck:
                logger.error("No movement on %s for %.0f s: the watchdog is not told.", ", ".join(stuck), STALL_SECONDS)
            else:
                notify("WATCHDOG=1")
            await asyncio.sleep(every)


def consumer_class(application: Application, channel: str) -> type | None:
    """The class that an application routes a worker channel to. Raises LookupError for a channel that has no route."""
    routes: Any = getattr(application, "application_mapping", {})
    routes = getattr(routes.get("channel"), "application_mapping", routes)
    if channel not in routes:
        known = ", ".join(sorted(name for name in routes if isinstance(name, str))) or "none"
        raise LookupError(f"No consumer works on the channel {channel!r}. Those that have one: {known}.")
    return getattr(routes[channel], "consumer_class", None)


def _parcels(channel: str, messages: list[dict[str, Any]], takes_batches: bool) -> list[Message]:
    """What the consumer gets: all as one, or each by itself but for those that say not what they are."""
    if takes_batches:
        return [{"type": "batch", "channel": channel, "messages": messages}]
    typed: list[Message] = [message for message in messages if isinstance(message.get("type"), str)]
    if len(typed) < len(messages):
        logger.warning("Dropped %d of %s without a type", len(messages) - len(typed), channel)
    return typed
