"""Coalesces concurrent lookups: a thousand clients that reconnect together cost a few queries, not thousands."""

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

from channelbox.realtime.background_tasks import once
from channelbox.realtime.join_steps import JoinSteps

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_KEYS = 200  # keys in one batch: the first of many callers should not wait for the last
# While many callers arrive, a batch waits this long for more keys, as a lookup costs the same for few and for many.
CROWD_WAIT_SECONDS = 0.005
# Many callers are assumed for this long after a batch of more than one key. A lone caller never waits.
CROWD_SECONDS = 0.1


class BatchLoader(Generic[K, V]):
    """Looks up values by key, in batches. One batch runs at a time; keys requested meanwhile share the next one.

    Belongs to one event loop.
    """

    def __init__(self, look_up: Callable[[list[K]], Awaitable[Mapping[K, V]]], at_once: int = MAX_KEYS) -> None:
        """`look_up` maps a list of at most `at_once` different keys to values; a key that it leaves out is None."""
        self._look_up = look_up
        self._at_once = at_once
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._crowd_until = 0.0  # on the loop's clock
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V | None:
        """Return the value of this key, looked up after the call, or None. Raises what `look_up` raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[V | None] = loop.create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._task is None:
            self._task = once("look-up for many", self._run(), self._tasks)
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        steps = JoinSteps.of(loop)
        try:
            while self._waiting:
                if loop.time() < self._crowd_until and len(self._waiting) < self._at_once:
                    await asyncio.sleep(CROWD_WAIT_SECONDS)
                batch = {key: self._waiting.pop(key) for key in list(itertools.islice(self._waiting, self._at_once))}
                batch = {key: futures for key, futures in batch.items() if not all(map(_is_done, futures))}
                if not batch:  # all callers were cancelled
                    continue
                if len(batch) > 1:
                    self._crowd_until = loop.time() + CROWD_SECONDS
                try:
                    found = await self._look_up(list(batch))
                    answers = [(futures, found.get(key)) for key, futures in batch.items()]
                except Exception as error:
                    for future in itertools.chain.from_iterable(batch.values()):
                        steps.go_on(functools.partial(_set_exception, future, error))
                else:
                    for futures, answer in answers:
                        for future in futures:
                            steps.go_on(functools.partial(_set_result, future, answer))
        finally:
            self._task = None


def _is_done(future: asyncio.Future[V]) -> bool:
    return future.done()


def _set_result(future: "asyncio.Future[V]", value: V) -> None:
    if not future.done():  # its caller was not cancelled
        future.set_result(value)


def _set_exception(future: asyncio.Future[V], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
