"""The state of one room in one process: puts runs of frames in sequence, to write them once to each member."""

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

MAX_PARKED_BYTES = 1024 * 1024  # of frames that wait for earlier ones; beyond it, events are read from the database


class Run(NamedTuple):
    """The encoded frames of the events `first` to `last`. An empty run has first = last + 1.

    `replaced`: number and new frame of each earlier event that these events have changed. `gone`: the events are no
    longer in the database, and `frames` is one frame that says so for all of them.
    """

    first: int
    last: int
    frames: bytes
    replaced: Sequence[tuple[int, bytes]] = ()
    gone: bool = False

    def after(self, seq: int) -> "Run":
        """Return the part of the run after number `seq`, which is in the run or before it."""
        if seq < self.first:
            return self
        if self.gone:
            return gone(seq + 1, self.last)
        return self._replace(first=seq + 1, frames=skip(self.frames, seq + 1 - self.first))


def gap_frame(first: int, last: int, *, gone: bool = False) -> bytes:
    """Return the frame that tells a client that the events `first` to `last` are not sent.

    `gone`: they are no longer in the database.
    """
    return json_frame({"type": "gap", "from": first, "to": last, **({"gone": True} if gone else {})})


def gap_frames(after: int | None, have: int | None, start: int) -> bytes:
    """Return the frames that report the events between those that a client has and those that follow.

    `after`: the newest number that the client reported, None for a newcomer. `have`: the same, but not below the last
    number before the room's floor. `start`: the number before the first event that follows.
    """
    if after is None or have is None:
        return b""
    frames = gap_frame(after + 1, have, gone=True) if have > after else b""
    return frames + (gap_frame(have + 1, start) if start > have else b"")


def gone(first: int, last: int) -> Run:
    """Return a run that reports numbers that are no longer in the database."""
    return Run(first, last, gap_frame(first, last, gone=True), gone=True)


class HubRoom:
    """A room with members, or with a batch in flight. Belongs to one event loop.

    `ready` completes when the room is subscribed to and has been read from the database.
    """

    def __init__(self, ready: asyncio.Future[None]) -> None:
        self.ready = ready
        self.key = 0  # tells apart the rooms that have ever had this name
        self.epoch = ""
        self.floor = 1  # numbers below it are no longer in the database
        self.members: set[Member] = set()
        self.holds = 0  # how many joins and batches in flight keep the room open
        self.several = False  # several people in this process sent messages within one batch
        self.seq = 0  # the newest number that has been passed on to be written to the members
        self.known = 0  # the newest number that is known to exist
        self.parked: dict[int, Run] = {}  # runs that wait for earlier events, by first number
        self._searched_seq = 0  # `seq` when `parked` was last searched for overtaken runs
        self.early: list[Envelope] = []  # received before the room was opened
        self._waiting_bytes = 0  # of `parked` and `early`
        self.replay = ReplayBuffer()
        self.reads: BatchLoader[int, Run] | None = None  # database reads, shared by clients that join at the same time
        self.repair: asyncio.Task[None] | None = None
        self.check: asyncio.Task[None] | None = None
        self.linger: asyncio.TimerHandle | None = None
        self.on_presence: Callable[[tuple[str, list[str] | None, int]], None] | None = None
        self._fan_out = FanOut(self.members)

    @property
    def opened(self) -> bool:
        """Return whether the room has been read from the database."""
        return self.ready.done() and self.ready.exception() is None

    def keep_early(self, envelope: Envelope) -> None:
        """Keep an envelope that arrives before the room is opened, without its outcomes.

        Past MAX_PARKED_BYTES only its last number is kept.
        """
        if self._waiting_bytes + envelope.memory <= MAX_PARKED_BYTES:
            self._waiting_bytes += envelope.memory
            self.early.append(dataclasses.replace(envelope, outcomes=()))
        else:
            self.known = max(self.known, envelope.last)

    def take_early(self) -> list[Envelope]:
        """Return the envelopes that arrived before the room was opened, and forget them."""
        early, self.early, self._waiting_bytes = self.early, [], 0
        return early

    def park(self, run: Run) -> None:
        """Keep a run until all events before it are written."""
        self.known = max(self.known, run.last)
        if run.last <= self.seq:  # all of it was written in the meantime
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
        """Write the parked runs that follow in sequence. Return whether events are known to be missing."""
        while self.parked:
            run = self._take_parked(self.seq + 1)
            if run is None:
                if self._searched_seq == self.seq:
                    break
                self._searched_seq = self.seq
                overtaken = [first for first in self.parked if first <= self.seq]
                for first in overtaken:
                    if (old := self._take_parked(first)) is not None:
                        self.park(old)
                continue
            self.write(run.frames, run.last - run.first + 1)
            self.seq = run.last
            if run.gone:  # the buffer has one frame for each number, so it starts again after a gap
                self.replay.clear()
            else:
                self.replay.add(run.first, run.last, run.frames)
            self.replace(run.replaced)
        return self.known > self.seq

    def replace(self, changed: Sequence[tuple[int, bytes]]) -> None:
        """Replace frames in the replay buffer, given as (number, new frame), for members that join later."""
        for seq, frame in changed:
            self.replay.replace(seq, frame)

    def forget_parked(self) -> None:
        """Discard announced events that are not in the database, as every committed event would be."""
        self.parked.clear()
        self._waiting_bytes = 0
        self.known = self.seq

    def recent(self, seq: int) -> bytes | None:
        """Return the frames after `seq` from memory, or None if they must be read from the database."""
        return b"" if seq >= self.seq else self.replay.since(seq)

    def write(self, frames: bytes, events: int = 1) -> None:
        """Write frames to all members at the end of this turn of the event loop, in one write per member and turn.

        If members times bytes are too many for one turn, writing continues in the following turns (`fan_out`).
        `events`: the number of events in the frames.
        """
        self._fan_out.write(frames, events, self.seq)

    def add(self, member: Member) -> None:
        """Add a member that was sent everything up to `seq`, including what is still to be written to the others."""
        self._fan_out.add(member, self.seq)

    @property
    def full(self) -> bool:
        """Return whether so much waits to be written that new events should be read from the database later."""
        return self._fan_out.full

    async def has_space(self) -> None:
        """Wait until the room is not full."""
        await self._fan_out.has_space()

    def written_to(self, member: Member) -> int:
        """Return the newest event number that was written to a member."""
        return self._fan_out.written_to(member, self.seq)
