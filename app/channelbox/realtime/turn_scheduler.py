"""Scheduler of an event loop's turns, for the connections that are read and the rooms that are written to.

Small work does not queue: in one turn of the loop, `TURN_FRAMES` are read from all connections together, and
`TURN_BYTES` written to all rooms together. Anything more waits in one of two queues, for connections and for rooms, in
order. Between two turns the loop serves everything else: sockets, timers, tasks. So however many clients send much, the
others wait for a few slices, and those that send much wait for each other.
"""

import asyncio
import collections
import weakref
from collections.abc import Callable
from typing import Protocol

TURN_FRAMES = 32  # read in one turn of the loop: about 3 ms, with what the application makes of them
FRAME_BYTES = 512  # so many bytes that are read count as a frame
SELDOM_FRAMES = 128  # read in one turn before connections that are seldom read wait too
TURN_BYTES = 4 * 1024 * 1024  # written to members of rooms in one turn of the loop: about 3 ms


class Waiting(Protocol):
    """Connection or room that has more to do than it may do at once."""

    def take_turn(self) -> None:
        """Do one bounded slice. Whatever is left has to wait for another turn."""


Queue = collections.deque[Waiting]


class _Turns:
    """The queues of one event loop, and what was read and written in its current turn."""

    __slots__ = ("number", "read", "readers", "writers", "written")

    def __init__(self) -> None:
        self.readers, self.writers = Queue(), Queue()
        self.number = self.read = self.written = 0

    def begin(self) -> None:
        """Begin the next turn of the loop."""
        self.number += 1
        self.read = self.written = 0


_turns: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns]" = weakref.WeakKeyDictionary()


def _turns_of(loop: asyncio.AbstractEventLoop) -> _Turns:
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = _Turns()
    return turns


def _this_turn(loop: asyncio.AbstractEventLoop) -> _Turns:
    """As `_turns_of`, to count something: the counts are reset when the next turn of the loop begins."""
    turns = _turns_of(loop)
    if not (turns.read or turns.written):
        loop.call_soon(turns.begin)  # runs in the next turn
    return turns


def _wait(
    loop: asyncio.AbstractEventLoop, queue: Queue, waiting: Waiting, serve: Callable[[asyncio.AbstractEventLoop], None]
) -> None:
    queue.append(waiting)
    if len(queue) == 1:
        loop.call_soon(serve, loop)


def _serve_first(queue: Queue) -> None:
    """Give the first its turn. It stays in the queue meanwhile, so that serving is not scheduled a second time."""
    try:
        queue[0].take_turn()
    finally:
        queue.popleft()


# --- Reading


def may_read(loop: asyncio.AbstractEventLoop, last_turn: int | None = None) -> bool:
    """Return whether a connection may be read in this turn of the loop without waiting.

    `last_turn`: for a connection that was not read for some time, the turn in which it was last read. During a long
    turn time passes for everybody, so a connection that was read in this turn or the one before has no privilege.
    """
    turns = _turns_of(loop)
    if last_turn is None:
        return turns.read < TURN_FRAMES
    return turns.number > last_turn + 1 and turns.read < SELDOM_FRAMES


def count_read(loop: asyncio.AbstractEventLoop, frames: int, size: int) -> int:
    """Count a slice that was read: a number of frames, and `size` in bytes. Return the number of this turn."""
    turns = _this_turn(loop)
    turns.read += max(frames, size // FRAME_BYTES, 1)
    return turns.number


def wait_to_read(loop: asyncio.AbstractEventLoop, connection: Waiting) -> None:
    """Have `connection.take_turn` called in a turn of the loop that has room for it.

    A connection must not wait twice at a time.
    """
    _wait(loop, _turns_of(loop).readers, connection, _read_next)


def _read_next(loop: asyncio.AbstractEventLoop) -> None:
    """Give connections a turn, each at most once, until this turn of the loop is full. At least one gets a turn."""
    turns = _turns_of(loop)
    try:
        for _ in range(len(turns.readers)):
            _serve_first(turns.readers)
            if turns.read >= TURN_FRAMES:
                break
    finally:
        if turns.readers:
            loop.call_soon(_read_next, loop)


# --- Writing


def fits_turn(loop: asyncio.AbstractEventLoop, size: int) -> bool:
    """Return whether `size` bytes may be written in this turn of the loop, and count them if so."""
    if _turns_of(loop).written + size > TURN_BYTES:
        return False
    _this_turn(loop).written += size
    return True


def wait_to_write(loop: asyncio.AbstractEventLoop, room: Waiting) -> None:
    """Have `room.take_turn` called. Of all waiting rooms, one has a turn in each turn of the loop.

    A room must not wait twice at a time.
    """
    _wait(loop, _turns_of(loop).writers, room, _write_next)


def _write_next(loop: asyncio.AbstractEventLoop) -> None:
    writers = _turns_of(loop).writers
    try:
        _serve_first(writers)
    finally:
        if writers:
            loop.call_soon(_write_next, loop)
