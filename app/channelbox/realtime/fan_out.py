"""Fan-out: writes a room's frames to its members, in one turn of the event loop or, if that is too much, in slices."""

import asyncio
from typing import NamedTuple

from channelbox.realtime import turn_scheduler
from channelbox.realtime.counters import counters
from channelbox.realtime.frames import split
from channelbox.realtime.members import Member

MAX_PASS_BYTES = 1024 * 1024  # in one write to a member
MIN_WRITE_BYTES = 512  # a shorter write takes as long
FULL_BYTES = 4 * 1024 * 1024  # of waiting frames in a room, past which new events are read from the database later


class Part(NamedTuple):
    """Frames that were queued together. `before`: the newest event number before them."""

    frames: bytes
    events: int
    before: int


class Newcomer(NamedTuple):
    """The number of the room's parts that a newcomer's greeting covered, and the newest event number in them."""

    parts: int
    seq: int


class FanOut:
    """The frames that are still to be written to a room's members. Belongs to one event loop.

    A pass writes the same bytes once to each member that was in the room when the pass began. Frames that arrive
    meanwhile belong to the next pass, so every member gets all frames in order. A newcomer's greeting contains the
    frames that arrived before it; these are not written to the newcomer again.
    """

    def __init__(self, members: set[Member]) -> None:
        """`members`: the room's set of members. Nothing more is written to a member removed from it; `add` adds one."""
        self._members = members
        self._writing = False  # a turn of the event loop is scheduled, or slices still wait for theirs
        self._waiting: list[Part] = []  # for the passes that follow
        self._waiting_bytes = 0
        self._has_space = asyncio.Event()
        self._has_space.set()
        self._pass: list[Part] = []  # the parts that are being written
        self._frames = b""  # their frames, joined
        self._events = 0  # in them
        self._remaining: set[Member] = set()  # members that the pass has not reached yet
        self._parts = 0  # number of parts so far, including those of the current pass
        self._newcomers: dict[Member, Newcomer] = {}  # members added while something waited

    def write(self, frames: bytes, events: int, before: int) -> None:
        """Write frames to all members at the end of this turn of the event loop, together with all others of this turn.

        If that is too much for one turn, writing begins in the next one. `events`: the number of events in the frames.
        `before`: the newest event number before them.
        """
        if not self._writing:
            self._writing = True
            asyncio.get_running_loop().call_soon(self._begin)
        if len(frames) > MAX_PASS_BYTES and events > 1:
            for part, count in split(frames, MAX_PASS_BYTES):
                self._waiting.append(Part(part, count, before))
                before += count
        else:
            self._waiting.append(Part(frames, events, before))
        self._waiting_bytes += len(frames)
        if self._waiting_bytes > FULL_BYTES:
            self._has_space.clear()

    @property
    def full(self) -> bool:
        """Return whether too much waits for more to be added: over FULL_BYTES, until half of that is left."""
        return not self._has_space.is_set()

    async def has_space(self) -> None:
        """Wait until this is not full."""
        await self._has_space.wait()

    def add(self, member: Member, seq: int) -> None:
        """Add a member whose greeting contains all frames so far. `seq`: their newest event number."""
        self._members.add(member)
        if self._writing:
            self._newcomers[member] = Newcomer(self._parts + len(self._waiting), seq)

    def written_to(self, member: Member, newest: int) -> int:
        """Return the newest event number that was written to a member. `newest`: the newest one passed to `write`."""
        unwritten = self._pass if member in self._remaining else self._waiting
        if not unwritten:
            return newest
        seq = unwritten[0].before
        return max(seq, self._newcomers[member].seq) if member in self._newcomers else seq

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        if turn_scheduler.fits_turn(loop, max(self._waiting_bytes, MIN_WRITE_BYTES) * len(self._members)):
            self.take_turn()
        else:  # such rooms take turns, one at a time
            turn_scheduler.wait_to_write(loop, self)

    def take_turn(self) -> None:
        """Write one slice of the waiting frames, and schedule another turn for the rest."""
        self._remaining &= self._members  # some may have left
        # Bytes left in this turn over all members; bytes per member of the passes that began in this turn
        left, begun = turn_scheduler.TURN_BYTES, 0
        while self._remaining or self._waiting:
            if left <= 0 or (not self._remaining and begun and begun + len(self._waiting[0].frames) > MAX_PASS_BYTES):
                turn_scheduler.wait_to_write(asyncio.get_running_loop(), self)
                return
            if not self._remaining:
                self._begin_pass()
                begun += len(self._frames)
            left -= self._write_slice(left)
        self._pass, self._frames = [], b""
        self._newcomers.clear()
        self._writing = False

    def _begin_pass(self) -> None:
        if self._newcomers:
            self._newcomers = {
                member: newcomer for member, newcomer in self._newcomers.items() if newcomer.parts > self._parts
            }
        count, size = 1, len(self._waiting[0].frames)
        while count < len(self._waiting) and size + len(self._waiting[count].frames) <= MAX_PASS_BYTES:
            size += len(self._waiting[count].frames)
            count += 1
        self._pass, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= size
        if self._waiting_bytes <= FULL_BYTES // 2:
            self._has_space.set()
        self._parts += count
        self._frames = _joined(self._pass)
        self._events = sum(part.events for part in self._pass)
        self._remaining = self._members.copy()

    def _write_slice(self, max_bytes: int) -> int:
        """Write the pass to the next members, at least one, until that makes `max_bytes`. Return the bytes written."""
        cost = max(len(self._frames), MIN_WRITE_BYTES)
        count = -(-max_bytes // cost)
        if count >= len(self._remaining):
            members, self._remaining = self._remaining, set()
        else:
            members = {self._remaining.pop() for _ in range(count)}
        written = cost * len(members)
        if self._newcomers:
            for member in members & self._newcomers.keys():
                members.discard(member)
                self._write_missing(member)
        for member in members:
            member.write_frames(self._frames)
        counters.delivered += self._events * len(members)
        return written

    def _write_missing(self, member: Member) -> None:
        """Write to a newcomer those parts of this pass that its greeting did not contain."""
        missing = self._parts - self._newcomers[member].parts
        if missing > 0:
            parts = self._pass[-missing:]
            member.write_frames(_joined(parts))
            counters.delivered += sum(part.events for part in parts)


def _joined(parts: list[Part]) -> bytes:
    return parts[0].frames if len(parts) == 1 else b"".join(part.frames for part in parts)
