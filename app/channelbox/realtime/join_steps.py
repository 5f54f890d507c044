"""Time slices for joins: in one turn of the event loop, only a few steps of all joins together run.

All joins wait together for the database, for slots and for the room. When one of these answers, hundreds of joins could
continue in one turn, and everybody's messages would wait for all of them.
"""

import asyncio
import functools
import weakref
from collections import deque
from collections.abc import Callable

SLICE_STEPS = 32  # about 3 ms; 16 is no better for others, and the last of many joins ends later

Step = Callable[[], object]


class JoinSteps:
    """Runs the steps of joins in order, but begins a join only when no other step waits. Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._under_way: deque[Step] = deque()
        self._beginning: deque[Step] = deque()
        self._steps_left = SLICE_STEPS  # in this slice, which ends with the turn of the loop
        self._scheduled = False

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> "JoinSteps":
        """Return the instance of this event loop."""
        steps = _steps.get(loop)
        if steps is None:
            steps = _steps[loop] = JoinSteps(loop)
        return steps

    def begin(self, step: Step) -> None:
        """Run a step that begins a join: at once if no other step waits and the slice has room, else in its turn."""
        self._run_or_queue(step, self._beginning)

    def go_on(self, step: Step) -> None:
        """Run another step of a join that has begun, at once or in its turn."""
        self._run_or_queue(step, self._under_way)

    async def turn(self) -> None:
        """Wait until a join that has begun may continue."""
        turn: asyncio.Future[None] = self._loop.create_future()
        self.go_on(functools.partial(_grant_turn, turn))
        await turn

    def _run_or_queue(self, step: Step, waiting: deque[Step]) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._next_slice)
        if self._steps_left and not waiting and not self._under_way:
            self._steps_left -= 1
            step()
        else:
            waiting.append(step)

    def _next_slice(self) -> None:
        self._scheduled = False
        self._steps_left = SLICE_STEPS
        try:
            while self._steps_left and (steps := self._under_way or self._beginning):
                self._steps_left -= 1
                steps.popleft()()
        finally:
            if not self._scheduled and (self._under_way or self._beginning):
                self._scheduled = True
                self._loop.call_soon(self._next_slice)


def _grant_turn(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


_steps: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, JoinSteps]" = weakref.WeakKeyDictionary()
