"""The worker: takes messages from worker channels and passes them to their consumers, one batch after another."""

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

BATCH = 50  # messages in one batch of a consumer that takes batches; with so few, two workers seldom share a room
WAIT_SECONDS = 1.0  # for a message; a stop is noticed within this time
MAX_PAUSE_SECONDS = 2.0  # between two attempts to reach a service that is away
STALL_SECONDS = 60.0  # in one step, after which the watchdog is no longer notified
SLOW_SECONDS = 0.1  # of handling, after which more is taken from the list meanwhile


class ChannelList(NamedTuple):
    """One list of a worker channel. `host`: index of its Redis host; None: the one that the name hashes to."""

    channel: str
    host: int | None = None
    bulk: bool = False

    def __str__(self) -> str:
        name = f"{self.channel} (bulk)" if self.bulk else self.channel
        return name if self.host is None else f"{name} on Redis host {self.host}"


class Worker:
    """Runs the consumers of some channels. Each list of a channel is processed independently, in its order.

    Nothing is taken from a list before the last messages are handled: those that wait are there for every worker, and a
    worker that dies loses no more than it had in hand. A consumer class may declare:

    - `batch = True`: it gets up to 50 messages as one, `{"type": "batch", "channel": name, "messages": [...]}`. Other
      consumers get them one by one.
    - `bulk = True`: the channel's bulk list is processed as well, beside the first.
    - `every_host = True`: the channel has its lists on each Redis host, and a host that is away holds up no other.
    - `in_hand = 2`: when handling takes longer than 0.1 s, more is taken from the list meanwhile and passed to another
      instance, until that many instances are busy.
    - a coroutine `ready()`, which is awaited before its channel is read.

    When handling a message fails, the error is logged and the next message goes to a new instance.

    On SIGTERM or SIGINT the worker finishes what it has in hand and stops; on a second signal it stops at once.
    """

    def __init__(self, application: Application, channels: Sequence[str], channel_layer: WorkLayer) -> None:
        self.application = application
        self.channels = list(dict.fromkeys(channels))
        self.channel_layer = channel_layer
        self._stopping = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._list_tasks: list[asyncio.Task[None]] = []
        self._handling: set[asyncio.Task[None]] = set()
        self._runners: list[ConsumerRunner] = []
        self._starting = set(self.channels)
        self._last_progress: dict[ChannelList | ConsumerRunner, float] = {}

    @property
    def ready(self) -> bool:
        """Return whether every consumer is ready and a list of every channel has answered once."""
        return not self._starting

    @property
    def stopping(self) -> bool:
        """Return whether `stop` was called."""
        return self._stopping.is_set()

    def run(self) -> None:
        """Run an event loop until the worker is stopped."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.serve())

    async def serve(self) -> None:
        """Run on the running event loop until the worker is stopped."""
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
        watchdog = supervise("watchdog", lambda: self._notify_watchdog(watchdog_seconds()))
        try:
            async with self._group:
                self._list_tasks = [
                    self._group.create_task(self._work(each), name=str(each)) for each in self._channel_lists()
                ]
        finally:
            watchdog.cancel()
            await asyncio.gather(*(runner.close() for runner in self._runners))

    def _channel_lists(self) -> list[ChannelList]:
        hosts = self.channel_layer.hosts
        lists = []
        for channel in self.channels:
            consumer = consumer_class(self.application, channel)
            for bulk in (False, True) if getattr(consumer, "bulk", False) else (False,):
                if hosts > 1 and getattr(consumer, "every_host", False):
                    lists += [ChannelList(channel, host, bulk) for host in range(hosts)]
                else:
                    lists.append(ChannelList(channel, bulk=bulk))
        return lists

    def stop(self) -> None:
        """Finish what is in hand, then stop. A second call stops at once."""
        if self.stopping:
            for task in (*self._list_tasks, *self._handling):
                task.cancel()
            return
        notify("STOPPING=1")
        counters.draining = True
        logger.info("Stopping once the current work is done.")
        self._stopping.set()
        # A reply that is on its way may carry messages, so the wait for it is cancelled only if none comes.
        asyncio.get_running_loop().call_later(WAIT_SECONDS + 1, self._cancel_waiting)

    def _cancel_waiting(self) -> None:
        for task in self._list_tasks:
            task.cancel()

    # --- One list

    async def _work(self, channel_list: ChannelList) -> None:
        channel, host, bulk = channel_list
        consumer = consumer_class(self.application, channel)
        takes_batches = getattr(consumer, "batch", False)
        limit = BATCH if takes_batches else 1
        if ready := getattr(consumer, "ready", None):
            await self._retry(channel_list, f"The consumer of {channel} is not ready", ready)
        idle: asyncio.Queue[ConsumerRunner] = asyncio.Queue()
        for _ in range(getattr(consumer, "in_hand", 1)):
            runner = ConsumerRunner(self.application, channel)
            self._runners.append(runner)
            idle.put_nowait(runner)
        while not self.stopping:
            runner = await idle.get()
            messages = await self._retry(
                channel_list,
                f"The queue of {channel_list} does not respond",
                lambda: self.channel_layer.receive_many(channel, limit, WAIT_SECONDS, host, bulk=bulk),
            )
            if messages is not None:
                self._mark_started(channel)
            if not messages:
                idle.put_nowait(runner)
                continue
            deliveries = _deliveries(channel, messages, takes_batches)
            task = self._group.create_task(self._handle(channel_list, runner, deliveries, idle))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)
            await asyncio.wait([task], timeout=SLOW_SECONDS)

    async def _handle(
        self,
        channel_list: ChannelList,
        runner: ConsumerRunner,
        deliveries: list[Message],
        idle: asyncio.Queue[ConsumerRunner],
    ) -> None:
        try:
            for delivery in deliveries:
                self._last_progress[runner] = time.monotonic()
                try:
                    await runner.handle(delivery)
                except Exception:
                    logger.exception("Cannot handle a %r of %s", delivery["type"], channel_list)
                counters.handled += len(delivery["messages"]) if delivery["type"] == "batch" else 1
        finally:
            self._last_progress.pop(runner, None)
            idle.put_nowait(runner)

    async def _retry(self, channel_list: ChannelList, trouble: str, attempt: Callable[[], Awaitable[T]]) -> T | None:
        """Repeat an attempt until it succeeds; return its result, or None when the worker stops.

        Reports `trouble` in the log and to systemd when it begins and when it is over.
        """
        since, failures = time.monotonic(), 0
        try:
            while not self.stopping:
                self._last_progress[channel_list] = time.monotonic()
                try:
                    result = await attempt()
                except Exception as error:
                    if not failures:
                        expected = isinstance(error, RedisError | OSError)
                        reason = str(error) or type(error).__name__
                        logger.warning("%s; retrying: %s", trouble, reason, exc_info=not expected)
                        notify(f"STATUS={trouble}: {reason}".replace("\n", " "))
                    failures += 1
                    await self._pause(min(MAX_PAUSE_SECONDS, 0.1 * 2 ** min(failures, 10)))
                else:
                    if failures:
                        logger.warning("%s: resolved after %.1f s.", trouble, time.monotonic() - since)
                        notify(self._status())
                    return result
            return None
        finally:
            self._last_progress.pop(channel_list, None)

    async def _pause(self, seconds: float) -> None:
        # Not `wait_for`: that of Python 3.11 may swallow a cancellation.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * random.uniform(0.5, 1)):  # noqa: S311
                await self._stopping.wait()

    # --- Notifications to systemd

    def _mark_started(self, channel: str) -> None:
        if channel in self._starting and not self.stopping:
            self._starting.remove(channel)
            if self.ready:
                logger.info("Working on %s.", ", ".join(self.channels))
                notify("READY=1\n" + self._status())

    def _status(self) -> str:
        return "STATUS=Working on " + ", ".join(self.channels)

    async def _notify_watchdog(self, every: float | None) -> None:
        """Notify the watchdog while no step takes longer than `STALL_SECONDS`.

        A step is a message being handled, a wait for messages, or an attempt that is retried.
        """
        while every is not None:
            now = time.monotonic()
            stuck = [str(each) for each, progress in self._last_progress.items() if now - progress > STALL_SECONDS]
            if stuck:
                logger.error(
                    "No progress on %s for %.0f s; not notifying the watchdog.", ", ".join(stuck), STALL_SECONDS
                )
            else:
                notify("WATCHDOG=1")
            await asyncio.sleep(every)


def consumer_class(application: Application, channel: str) -> type | None:
    """Return the class to which an application routes a worker channel. Raises LookupError if it has no route."""
    routes: Any = getattr(application, "application_mapping", {})
    routes = getattr(routes.get("channel"), "application_mapping", routes)
    if channel not in routes:
        known = ", ".join(sorted(name for name in routes if isinstance(name, str))) or "none"
        raise LookupError(f"The channel {channel!r} has no consumer. Channels that have one: {known}.")
    return getattr(routes[channel], "consumer_class", None)


def _deliveries(channel: str, messages: list[dict[str, Any]], takes_batches: bool) -> list[Message]:
    """Return what the consumer gets: all messages as one, or each by itself. Those without a type are dropped then."""
    if takes_batches:
        return [{"type": "batch", "channel": channel, "messages": messages}]
    typed: list[Message] = [message for message in messages if isinstance(message.get("type"), str)]
    if len(typed) < len(messages):
        logger.warning("Dropped %d messages of %s without a type", len(messages) - len(typed), channel)
    return typed
