"""Shares an event loop's turns: one bounded slice of one connection, or of one room, in each.

What is small does not queue: all rooms together may write `TURN_BYTES` in a turn without one of their own.
"""

import asyncio
import collections
import weakref
from typing import Protocol

TURN_BYTES = 4 * 1024 * 1024  # written to members of rooms in one turn of the loop: about 3 ms


class Waiting(Protocol):
    """A connection or a room that has more to do than it may do at once."""

    def take_turn(self) -> None:
        """Do one bounded slice. Whatever is left needs another `wait_for_turn`."""


class _Turns:
    """Those of one loop that wait for a turn, in order; and what was written in this turn without waiting."""

    __slots__ = ("spent", "waiting")

    def __init__(self) -> None:
        self.waiting: collections.deque[Waiting] = collections.deque()
        self.spent = 0

    def begin(self) -> None:
        """Begin the next turn of the loop."""
        self.spent = 0


_turns: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns]" = weakref.WeakKeyDictionary()


def _of(loop: asyncio.AbstractEventLoop) -> _Turns:
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = _Turns()
    return turns


def fits_turn(loop: asyncio.AbstractEventLoop, size: int) -> bool:
    """Return whether so many bytes may be written in this turn of the loop, and count them if they may."""
    turns = _of(loop)
    if turns.spent + size > TURN_BYTES:
        return False
    if not turns.spent:
        loop.call_soon(turns.begin)  # is called in the next turn
    turns.spent += size
    return True


def wait_for_turn(loop: asyncio.AbstractEventLoop, connection: Waiting) -> None:
    """Have `connection.take_turn` called in a turn of its own. The caller sees to it that it waits only once.

    Between two turns the loop looks after everything else: sockets, timers, tasks. So however many clients flood it,
    the others wait for one slice, and the flooding ones for each other.
    """
    waiting = _of(loop).waiting
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
