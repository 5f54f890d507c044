"""One room as a process sees it: runs of frames put in sequence, to be written once to each member."""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from channelbox.realtime.batch_loader import BatchLoader
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.fan_out import FanOut
from channelbox.realtime.frames import json_frame, skip
from channelbox.realtime.members import Member
from channelbox.realtime.replay_buffer import ReplayBuffer

MAX_PARKED_BYTES = 1024 * 1024  # of what waits for what is before it; what is more is read from the record


class Run(NamedTuple):
    """The finished frames of the events `first` .. `last`; none of them: first = last + 1.

    `replaced`: the frames of earlier events that these have changed, as they are from now on. `gone`: these numbers are
    no longer in the record, and `frames` says so, in one frame for all of them.
    """

    first: int
    last: int
    frames: bytes
    replaced: Sequence[tuple[int, bytes]] = ()
    gone: bool = False

    def after(self, seq: int) -> "Run":
        """Return the part behind number `seq`, which is one of this run or before it."""
        if seq < self.first:
            return self
        if self.gone:
            return gone(seq + 1, self.last)
        return self._replace(first=seq + 1, frames=skip(self.frames, seq + 1 - self.first))


def gap_frame(first: int, last: int, *, gone: bool = False) -> bytes:
    """Tell a client that these numbers do not come. `gone`: they are not in the record any more."""
    return json_frame({"type": "gap", "from": first, "to": last, **({"gone": True} if gone else {})})


def gap_frames(after: int | None, have: int | None, start: int) -> bytes:
    """Return what tells a client of the numbers between the newest that it has and the first that follows.

    `after`: the number that the client gave; `have`: that, or the one before the room's floor; `start`: the one before
    the first that follows.
    """
    if after is None or have is None:
        return b""
    frames = gap_frame(after + 1, have, gone=True) if have > after else b""
    return frames + (gap_frame(have + 1, start) if start > have else b"")


def gone(first: int, last: int) -> Run:
    """Return the run that tells of numbers that are no longer in the record."""
    return Run(first, last, gap_frame(first, last, gone=True), gone=True)


class HubRoom:
    """A room with members, or with a batch in flight. Belongs to one event loop."""

    def __init__(self, ready: asyncio.Future[None]) -> None:
        self.ready = ready
        self.key = 0  # tells the rooms apart that have ever had this name
        self.epoch = ""
        self.floor = 1  # numbers below it are no longer in the record
        self.members: set[Member] = set()
        self.holds = 0  # joining, or with a batch in flight
        self.several = False  # several people here talked within one batch
        self.seq = 0  # the newest number that is written to the members, or about to be
        self.known = 0  # the newest number that is known to exist
        self.parked: dict[int, Run] = {}
        self._looked_at = 0  # the newest number when `parked` was last looked through for what was overtaken
        self.early: list[Envelope] = []  # heard before the room was opened
        self._waiting_bytes = 0  # of `parked` and `early`
        self.replay = ReplayBuffer()
        self.reads: BatchLoader[int, Run] | None = None  # of the record, for all who join at one moment
        self.repair: asyncio.Task[None] | None = None
        self.check: asyncio.Task[None] | None = None
        self.linger: asyncio.TimerHandle | None = None
        self.on_presence: Callable[[tuple[str, list[str] | None, int]], None] | None = None
        self._fan_out = FanOut(self.members)

    @property
    def opened(self) -> bool:
        """Whether the record was read for it."""
        return self.ready.done() and self.ready.exception() is None

    def hear_early(self, envelope: Envelope) -> None:
        """Keep what is heard before the room is opened, but for outcomes; or only how far it goes."""
        if self._waiting_bytes + envelope.memory <= MAX_PARKED_BYTES:
            self._waiting_bytes += envelope.memory
            self.early.append(dataclasses.replace(envelope, outcomes=()))
        else:
            self.known = max(self.known, envelope.last)

    def take_early(self) -> list[Envelope]:
        """Return what was heard before the room was opened."""
        early, self.early, self._waiting_bytes = self.early, [], 0
        return early

    def park(self, run: Run) -> None:
        """Keep a run until all before it is written."""
        self.known = max(self.known, run.last)
        if run.last <= self.seq:  # all of it was written while it was read
            return
        run = run.after(self.seq)
        if run.first > self.seq + 1 and self._waiting_bytes + len(run.frames) > MAX_PARKED_BYTES:
            return
        other = self.parked.get(run.first)
        if other is None or other.last < run.last:
            self._waiting_bytes += len(run.frames) - (len(other.frames) if other is not None else 0)
            self.parked[run.first] = run

    def _take_parked(self, first: int) -> Run | None:
        if (run := self.parked.pop(first, None)) is not None:
            self._waiting_bytes -= len(run.frames)
        return run

    def advance(self) -> bool:
        """Write what follows in sequence. Return whether something is known to be missing."""
        while self.parked:
            run = self._take_parked(self.seq + 1)
            if run is None:
                if self._looked_at == self.seq:
                    break
                self._looked_at = self.seq
                overtaken = [first for first in self.parked if first <= self.seq]
                for first in overtaken:
                    if (old := self._take_parked(first)) is not None:
                        self.park(old)
                continue
            self.write(run.frames, run.last - run.first + 1)
            self.seq = run.last
            if run.gone:  # the buffer has one frame for each number, and begins anew behind a hole
                self.replay.clear()
            else:
                self.replay.add(run.first, run.last, run.frames)
            self.replace(run.replaced)
        return self.known > self.seq

    def replace(self, changed: Sequence[tuple[int, bytes]]) -> None:
        """Have newcomers get these frames in place of those that these events had."""
        for seq, frame in changed:
            self.replay.replace(seq, frame)

    def forget_parked(self) -> None:
        """Give up what was heard of and is not in the record: a committed event would be."""
        self.parked.clear()
        self._waiting_bytes = 0
        self.known = self.seq

    def recent(self, seq: int) -> bytes | None:
        """Return the frames after `seq`; None where the record has to be read for them."""
        return b"" if seq >= self.seq else self.replay.since(seq)

    def write(self, frames: bytes, events: int = 1) -> None:
        """Write at the end of this turn of the loop: one write a member for all that comes in one turn.

        Where members times bytes are many, it goes on over the turns that follow (`fan_out`).
        """
        self._fan_out.write(frames, events, self.seq)

    def add(self, member: Member) -> None:
        """Add a member that was given everything up to `seq`, and with it what is still to be written to the others."""
        self._fan_out.add(member, self.seq)

    @property
    def full(self) -> bool:
        """Whether so much is still to be written that what comes is better read from the record, later."""
        return self._fan_out.full

    async def has_space(self) -> None:
        """Wait until it is not full."""
        await self._fan_out.has_space()

    def written_to(self, member: Member) -> int:
        """Return the newest number that was written to a member."""
        return self._fan_out.written_to(member, self.seq)
