"""Shares an event loop's turns: one bounded slice of one connection, or of one room, in each."""

import asyncio
import collections
import weakref
from typing import Protocol


class Waiting(Protocol):
    """A connection or a room that has more to do than it may do at once."""

    def take_turn(self) -> None:
        """Do one bounded slice. Whatever is left needs another `wait_for_turn`."""


# The connections of each loop that wait for a turn, in order
_waiting: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, collections.deque[Waiting]]"
_waiting = weakref.WeakKeyDictionary()


def wait_for_turn(loop: asyncio.AbstractEventLoop, connection: Waiting) -> None:
    """Have `connection.take_turn` called in a turn of its own. The caller sees to it that it waits only once.

    Between two turns the loop looks after everything else: sockets, timers, tasks. So however many clients flood it,
    the others wait for one slice, and the flooding ones for each other.
    """
    waiting = _waiting.get(loop)
    if waiting is None:
        waiting = _waiting[loop] = collections.deque()
    waiting.append(connection)
    if len(waiting) == 1:
        loop.call_soon(_next, loop, waiting)


def _next(loop: asyncio.AbstractEventLoop, waiting: "collections.deque[Waiting]") -> None:
    """Give the first connection its turn. It stays at the front meanwhile, so that no second `_next` is asked for."""
    try:
        waiting[0].take_turn()
    finally:
        waiting.popleft()
        if waiting:
            loop.call_soon(_next, loop, waiting)
