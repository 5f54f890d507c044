"""Looking things up for many at once: a thousand people who come back together are a few queries, not thousands."""

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

from channelbox.realtime.background_tasks import once
from channelbox.realtime.join_steps import JoinSteps

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_KEYS = 200  # keys of one look-up: the first of a crowd are not to wait for the last
CROWD_WAIT = 0.005  # s that a look-up waits for more while a crowd comes: it costs the same for few and for many
CROWD_SECONDS = 0.1  # after a look-up of several, for which there is a crowd. Who comes alone never waits


class BatchLoader(Generic[K, V]):
    """Looks up by key. One look-up is under way at a time; all that is asked for meanwhile shares the next.

    `look_up` answers for a list of at most `at_once` different keys; what it leaves out is None. Belongs to one event
    loop.
    """

    def __init__(self, look_up: Callable[[list[K]], Awaitable[Mapping[K, V]]], at_once: int = MAX_KEYS) -> None:
        self._look_up = look_up
        self._at_once = at_once
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._crowd_until = 0.0  # on the loop's clock
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V | None:
        """What there is for this key, looked up after the call. Raises what the look-up raises."""
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
                    await asyncio.sleep(CROWD_WAIT)
                asked = {key: self._waiting.pop(key) for key in list(itertools.islice(self._waiting, self._at_once))}
                asked = {key: futures for key, futures in asked.items() if not all(map(_is_done, futures))}
                if not asked:  # all were given up
                    continue
                if len(asked) > 1:
                    self._crowd_until = loop.time() + CROWD_SECONDS
                try:
                    found = await self._look_up(list(asked))
                    answers = [(futures, found.get(key)) for key, futures in asked.items()]
                except Exception as error:
                    for future in itertools.chain.from_iterable(asked.values()):
                        steps.go_on(functools.partial(_fail, future, error))
                else:
                    for futures, answer in answers:
                        for future in futures:
                            steps.go_on(functools.partial(_answer, future, answer))
        finally:
            self._task = None


def _is_done(future: asyncio.Future[V]) -> bool:
    return future.done()


def _answer(future: "asyncio.Future[V]", value: V) -> None:
    if not future.done():  # not given up
        future.set_result(value)


def _fail(future: asyncio.Future[V], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
