"""Looking things up for many at once: a thousand people who come back together are a few queries, not thousands."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

AT_ONCE = 200  # keys of one look-up: the first of a crowd are not to wait for the last


class Gather(Generic[K, V]):
    """Looks up by key. One look-up is under way at a time; all that is asked for meanwhile shares the next.

    `look_up` answers for a list of different keys; what it leaves out is None. Belongs to one event loop.
    """

    def __init__(self, look_up: Callable[[list[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._look_up = look_up
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """What there is for this key, looked up after the call. Raises what the look-up raises."""
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._task is None:
                self._task = asyncio.create_task(self._run())
        return await asyncio.shield(future)  # shared: one that gives up takes it from nobody else

    async def _run(self) -> None:
        try:
            while self._waiting:
                keys = list(self._waiting)[:AT_ONCE]
                asked = {key: self._waiting.pop(key) for key in keys}
                try:
                    found = await self._look_up(keys)
                except Exception as error:
                    for future in asked.values():
                        future.set_exception(error)
                        future.exception()  # nobody waiting any more is no error
                else:
                    for key, future in asked.items():
                        future.set_result(found.get(key))
        finally:
            self._task = None
