"""Writes a room's frames to its members: all of them in one turn of the event loop, or in slices where that is much."""

import asyncio
from typing import NamedTuple

from channelbox.realtime import turn_scheduler
from channelbox.realtime.counters import counters
from channelbox.realtime.frames import split
from channelbox.realtime.members import Member

PASS_BYTES = 1024 * 1024  # in one write to a member
MIN_WRITE_BYTES = 512  # a shorter write takes as long
FULL_BYTES = 4 * 1024 * 1024  # of frames that wait in a room: what comes then is read from the record, later


class Part(NamedTuple):
    """Frames that came together. `before`: the newest number before them."""

    frames: bytes
    events: int
    before: int


class Newcomer(NamedTuple):
    """How many parts of the room's a newcomer had from its greeting, and the newest number in them."""

    parts: int
    seq: int


class FanOut:
    """What a room's members are still to be written. Belongs to one event loop.

    A pass writes the same bytes once to each member that was here when it began. What comes meanwhile is of the next
    pass, so a member is never written anything before what comes before it. A newcomer's greeting has all that came
    until then: of that it is written nothing again.
    """

    def __init__(self, members: set[Member]) -> None:
        """`members`: whoever leaves this set is written no more; `add` puts members into it."""
        self._members = members
        self._writing = False  # a turn of the loop is asked for, until nothing waits
        self._waiting: list[Part] = []  # for the passes that follow
        self._waiting_bytes = 0
        self._has_space = asyncio.Event()
        self._has_space.set()
        self._pass: list[Part] = []  # what is being written
        self._frames = b""  # the same in one
        self._events = 0  # in it
        self._rest: set[Member] = set()  # members that the pass has yet to reach
        self._parts = 0  # how many there were, up to the end of the pass
        self._newcomers: dict[Member, Newcomer] = {}  # who came while something waited

    def write(self, frames: bytes, events: int, before: int) -> None:
        """Write at the end of this turn of the loop, together with all else that comes in it.

        Where that is too much for one turn, it begins in the next one. `before`: the newest number before these frames.
        """
        if not self._writing:
            self._writing = True
            asyncio.get_running_loop().call_soon(self._begin)
        if len(frames) > PASS_BYTES and events > 1:
            for part, count in split(frames, PASS_BYTES):
                self._waiting.append(Part(part, count, before))
                before += count
        else:
            self._waiting.append(Part(frames, events, before))
        self._waiting_bytes += len(frames)
        if self._waiting_bytes > FULL_BYTES:
            self._has_space.clear()

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing should be added, for as long as half of it does."""
        return not self._has_space.is_set()

    async def has_space(self) -> None:
        """Wait until it is not full."""
        await self._has_space.wait()

    def add(self, member: Member, seq: int) -> None:
        """Add a member that was given everything up to now. `seq`: the newest number of it."""
        self._members.add(member)
        if self._writing:
            self._newcomers[member] = Newcomer(self._parts + len(self._waiting), seq)

    def written_to(self, member: Member, newest: int) -> int:
        """Return the newest number that was written to a member, out of those up to `newest`."""
        unwritten = self._pass if member in self._rest else self._waiting
        if not unwritten:
            return newest
        seq = unwritten[0].before
        return max(seq, self._newcomers[member].seq) if member in self._newcomers else seq

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        if turn_scheduler.fits_turn(loop, max(self._waiting_bytes, MIN_WRITE_BYTES) * len(self._members)):
            self.take_turn()
        else:  # of all such rooms one has a turn at a time
            turn_scheduler.wait_to_write(loop, self)

    def take_turn(self) -> None:
        """Write one slice of what waits. What is left has a turn of its own."""
        self._rest &= self._members  # some may have left
        left, begun = turn_scheduler.TURN_BYTES, 0  # bytes for all members, and of the passes that begin in this turn
        while self._rest or self._waiting:
            if left <= 0 or (not self._rest and begun and begun + len(self._waiting[0].frames) > PASS_BYTES):
                turn_scheduler.wait_to_write(asyncio.get_running_loop(), self)
                return
            if not self._rest:
                self._begin_pass()
                begun += len(self._frames)
            left -= self._write_slice(left)
        self._pass, self._frames = [], b""
        self._newcomers.clear()
        self._writing = False

    def _begin_pass(self) -> None:
        if self._newcomers:
            self._newcomers = {member: had for member, had in self._newcomers.items() if had.parts > self._parts}
        count, size = 1, len(self._waiting[0].frames)
        while count < len(self._waiting) and size + len(self._waiting[count].frames) <= PASS_BYTES:
            size += len(self._waiting[count].frames)
            count += 1
        self._pass, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= size
        if self._waiting_bytes <= FULL_BYTES // 2:
            self._has_space.set()
        self._parts += count
        self._frames = _joined(self._pass)
        self._events = sum(part.events for part in self._pass)
        self._rest = self._members.copy()

    def _write_slice(self, most: int) -> int:
        """Write the pass to its next members, one at least, until that makes `most` bytes. Return how many it made."""
        cost = max(len(self._frames), MIN_WRITE_BYTES)
        many = -(-most // cost)
        if many >= len(self._rest):
            members, self._rest = self._rest, set()
        else:
            members = {self._rest.pop() for _ in range(many)}
        written = cost * len(members)
        if self._newcomers:
            for member in members & self._newcomers.keys():
                members.discard(member)
                self._write_lacking(member)
        for member in members:
            member.write_frames(self._frames)
        counters.delivered += self._events * len(members)
        return written

    def _write_lacking(self, member: Member) -> None:
        """Write to a newcomer what of this pass its greeting did not have."""
        lacking = self._parts - self._newcomers[member].parts
        if lacking > 0:
            parts = self._pass[-lacking:]
            member.write_frames(_joined(parts))
            counters.delivered += sum(part.events for part in parts)


def _joined(parts: list[Part]) -> bytes:
    return parts[0].frames if len(parts) == 1 else b"".join(part.frames for part in parts)
