"""The hub: this process's one subscription to each room, and each room's frames in sequence, once, to each member."""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import NamedTuple

from channelbox.realtime import catch_up, redis_keys
from channelbox.realtime.admission import Source
from channelbox.realtime.background_tasks import cancel, failed, once, supervise
from channelbox.realtime.batch_loader import BatchLoader
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import BatchOutcome, Envelope
from channelbox.realtime.errors import Close, Code, Refused
from channelbox.realtime.history_source import HistorySource, Identity, Observed
from channelbox.realtime.hub_room import HubRoom, Run, gap_frame, gap_frames
from channelbox.realtime.join_steps import JoinSteps
from channelbox.realtime.members import Member

logger = logging.getLogger(__name__)

CROSSED_SECONDS = 0.05  # two workers' publishes that crossed are mostly solved by then
MAX_REPAIR_PAUSE_SECONDS = 5.0
OPEN_SECONDS = 10.0
LINGER_SECONDS = 10.0  # a reload or a reconnect finds the room still open
PAGE = 200  # events in one read
MAX_REPAIRS = 8  # rooms whose holes are read at one time: as many as the record reads together
NO_SOURCE = Source(None)  # has no share, and takes of what all have
ORPHANED_SECONDS = 5.0  # after which a member of a room that is no more is sent away, should nobody else have done so


class Hello(NamedTuple):
    """What a newcomer's greeting says of the room."""

    newest: int
    floor: int
    resumed: bool  # everything after the number that the client gave follows, but for what is no longer there


class Hub:
    """All rooms with members in this process."""

    def __init__(self, bus: Bus, store: HistorySource, process: str) -> None:
        self.rooms: dict[str, HubRoom] = {}
        self.on_outcome: Callable[[BatchOutcome], None] | None = None
        self.on_open: Callable[[str, HubRoom], None] | None = None
        self.on_replaced: Callable[[int], None] | None = None  # given the key of the room that is no longer what it was
        self._bus = bus
        self._store = store
        self._process = process
        self._tasks: set[asyncio.Task[None]] = set()
        self._repairs = asyncio.Semaphore(MAX_REPAIRS)  # others of the record's readers do not wait for all of them
        self._catch_ups = catch_up.CatchUps()

    # --- Joining and leaving

    async def hold(self, name: str) -> HubRoom:
        """Subscribe to a room and keep it open until `release`. Raises Refused when that takes too long."""
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = HubRoom(asyncio.get_running_loop().create_future())
            once(f"opening of room {name}", self._open(name, room), self._tasks)
        room.holds += 1
        if room.opened:  # mostly: no timer is needed then
            return room
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await asyncio.shield(room.ready)
                await JoinSteps.of(asyncio.get_running_loop()).turn()  # many may have waited for it
        except BaseException as error:
            self.release(name, room)
            if isinstance(error, Exception):
                raise Refused(
                    Code.TRY_LATER,
                    "The room cannot be opened just now. Try again.",
                    retry_after=2,
                    close=Close.TRY_LATER,
                ) from error
            raise
        return room

    def release(self, name: str, room: HubRoom) -> None:
        room.holds -= 1
        self._close_later(name, room)

    async def join(
        self,
        name: str,
        identity: Identity,
        member: Member,
        after: int | None,
        history: int,
        greet: Callable[[Hello], bytes],
        last: Callable[[], bytes] = bytes,
        source: Source = NO_SOURCE,
    ) -> HubRoom:
        """Write the greeting, what the member lacks and `last`, and add it to the room without a gap or a double.

        `identity`: of the room that the member was let into. `after`: the newest number that the member has, None for a
        newcomer, which gets the last `history` events. `source`: whose share of all that is sent to those who join it
        takes. Raises Refused when the room cannot be opened.
        """
        room = await self._hold_identified(name, identity)
        account = catch_up.CatchUp(self._catch_ups, source)
        try:
            await self._reach(name, room, after or 0)
            newest = room.seq
            have = None if after is None else max(after, min(room.floor - 1, newest))
            resumed = (
                after is not None and have is not None and 0 <= after <= newest and newest - have <= catch_up.MAX_EVENTS
            )
            seq = have if resumed and have is not None else max(room.floor - 1, newest - history, 0)
            wanted, start, missed = seq, seq, b""
            read = seq - seq % PAGE  # whole pages: whoever else joins needs the same ones
            while (recent := room.recent(seq)) is None:
                run = await self._read(name, room, read)
                if run.last <= read:
                    raise LookupError(f"the record ends at {read}, the room at {room.seq}")
                read = run.last
                if run.last > room.seq:  # stored, and not heard yet: the members get it now, and once
                    room.park(run)
                    self._advance(name, room)
                if run.last <= seq:
                    continue
                missed += run.after(seq).frames
                seq = run.last
                if not account.keep(len(missed)):
                    start, missed = seq, b""  # the greeting tells of the gap; HTTP has the rest, page by page
            # No await from here to the end: no gap, no double.
            if self.rooms.get(name) is not room:
                raise LookupError("it was removed and made anew")
            if not account.may_send(len(missed) + len(recent)):
                fits = room.replay.newest(catch_up.GUARANTEED_BYTES)
                start, missed = max(start, room.seq if fits is None else fits), b""  # the greeting tells of the gap
                recent = room.recent(start) or b""
            account.send(len(missed) + len(recent))
            resumed = resumed and start == have
            gaps = gap_frames(after, have, start)
            if after is None and wanted < start == room.seq:  # a newcomer who gets nothing would take it for everything
                gaps = gap_frame(wanted + 1, start)
            greeting = greet(Hello(room.seq, room.floor, resumed)) + gaps
            member.write_frames(greeting + missed + recent + last())
            counters.rooms += not room.members
            room.add(member)
            return room
        except Refused:
            raise
        except Exception as error:
            logger.warning("Room %s: history cannot be read: %s", name, error)
            raise Refused(
                Code.TRY_LATER, "The room cannot be read just now. Try again.", retry_after=2, close=Close.TRY_LATER
            ) from error
        finally:
            account.end()
            self.release(name, room)

    async def _hold_identified(self, name: str, identity: Identity) -> HubRoom:
        """Hold the room of this identity. Raises Refused where that is not the one that has the name now."""
        room = await self.hold(name)
        if _identity(room) == identity:
            return room
        self.release(name, room)
        if await self._check(name, room):  # the client was let in before the room was replaced
            raise Refused(Code.TRY_LATER, "The room was made anew. Try again.", close=Close.TRY_LATER)
        room = await self.hold(name)
        if _identity(room) != identity:
            self.release(name, room)
            raise Refused(Code.TRY_LATER, "The room was made anew. Try again.", close=Close.TRY_LATER)
        return room

    async def _reach(self, name: str, room: HubRoom, seq: int) -> None:
        """Read on to a number that a client has heard elsewhere, unless it is not in the record: a backup's is older.

        Redis may have been away from this process alone: to say that the room has less would make the client forget.
        Raises Refused while more waits to be written here than can be: another process may be further.
        """
        while room.seq < seq:
            if room.full:
                raise Refused(
                    Code.TRY_LATER,
                    "Too much is said in this room just now. Try again.",
                    retry_after=2,
                    close=Close.TRY_LATER,
                )
            before = room.seq
            run = await self._read(name, room, before)
            if run.last > before:
                room.park(run)
                self._advance(name, room)
            elif room.seq == before:
                return

    async def _read(self, name: str, room: HubRoom, seq: int) -> Run:
        """Read what follows a number, once for all who need it at this moment."""
        if room.reads is None:
            room.reads = BatchLoader(functools.partial(self._read_each, name, _identity(room)))
        if (run := await room.reads.get(seq)) is None:
            raise LookupError(f"nothing was read after {seq}")
        return run

    async def _read_each(self, name: str, identity: Identity, seqs: list[int]) -> dict[int, Run]:
        runs = await asyncio.gather(*(self._store.after(name, identity, seq, PAGE) for seq in seqs))
        return dict(zip(seqs, runs, strict=True))

    def leave(self, name: str, member: Member) -> None:
        if (room := self.rooms.get(name)) is not None and member in room.members:
            room.members.discard(member)
            counters.rooms -= not room.members
            self._close_later(name, room)

    def written_to(self, name: str, member: Member) -> int:
        """Return the newest number of a room that was written to this member of it."""
        return room.written_to(member) if (room := self.rooms.get(name)) is not None else 0

    # --- Opening and closing

    async def _open(self, name: str, room: HubRoom) -> None:
        """Subscribe, then read the newest number: what is published between the two is kept."""
        try:
            await self._bus.subscribe(redis_keys.room(name), lambda payload: self._payload(name, room, payload))
            opened = await self._store.open(name)
            if self.rooms.get(name) is not room:
                return  # given up meanwhile: nobody waits, and the next to join opens the room anew
            (room.key, room.epoch), room.floor = opened.identity, opened.floor
            run = opened.run
            room.seq = run.last
            room.known = max(room.known, run.last)
            if run.frames and not run.gone:
                room.replay.add(run.first, run.last, run.frames)
            if self.on_open is not None:
                self.on_open(name, room)
            room.ready.set_result(None)
            for envelope in room.take_early():
                self._take(name, room, envelope)
            self._advance(name, room)
        except Exception as error:
            failed(logger, error, "Room %s cannot be opened", name)
            self._forget(name, room)
            if not room.ready.done():
                room.ready.set_exception(error)
                room.ready.exception()  # those who wait are told; nobody waiting is no error

    def _close_later(self, name: str, room: HubRoom) -> None:
        if not room.members and not room.holds and room.linger is None:
            room.linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close, name, room)

    def _close(self, name: str, room: HubRoom) -> None:
        room.linger = None
        if room.members or room.holds or self.rooms.get(name) is not room:
            return
        self._forget(name, room)

    def _forget(self, name: str, room: HubRoom) -> None:
        if self.rooms.get(name) is room:
            del self.rooms[name]
            self._bus.forget(redis_keys.room(name))
        if room.repair is not None:
            room.repair.cancel()

    # --- A room that is no longer what it was

    async def _check(self, name: str, room: HubRoom) -> bool:
        """Return whether the record still has this room under this name; give the room up where it has not."""
        try:
            opened = await self._store.open(name)
        except Exception as error:
            raise Refused(
                Code.TRY_LATER, "The room cannot be read just now. Try again.", retry_after=2, close=Close.TRY_LATER
            ) from error
        self.observe(name, room, Observed(opened.identity, opened.floor, opened.run.last))
        return _identity(room) == opened.identity

    def give_up(self, name: str, room: HubRoom) -> None:
        """Give up a room that was removed, made anew or restored: its numbers mean something else now."""
        if self.rooms.get(name) is not room:
            return
        counters.rooms -= bool(room.members)
        # They are told why by those who look after rights. Should nobody do so, they have to come back by themselves.
        asyncio.get_running_loop().call_later(ORPHANED_SECONDS, _restart, list(room.members))
        room.members.clear()
        self._forget(name, room)
        if self.on_replaced is not None:
            self.on_replaced(room.key)

    def observe(self, name: str, room: HubRoom, observed: Observed) -> None:
        """Compare a room with the record: read what is missing, give up what was replaced.

        The record was read after the room was opened: an older answer would be of the room before it.
        """
        if self.rooms.get(name) is not room:
            return
        if _identity(room) != observed.identity:
            self.give_up(name, room)
            return
        room.floor = max(room.floor, observed.floor)
        if observed.seq > room.known:
            room.known = observed.seq
            self._advance(name, room)

    @staticmethod
    def has_lost(room: HubRoom, observed: Observed, seq: int) -> bool:
        """Return whether the record ends before a number that a room had before the record was read.

        What is heard was committed, so the database has lost it.
        """
        return _identity(room) == observed.identity and observed.seq < seq

    # --- What is heard

    def _payload(self, name: str, room: HubRoom, payload: bytes) -> None:
        self.heard(name, room, Envelope.unpack(payload))

    def heard(self, name: str, room: HubRoom, envelope: Envelope) -> None:
        """Take one publish: write what is next in sequence, keep what is ahead, drop what was written already."""
        if room.ready.done():
            self._take(name, room, envelope)
            self._advance(name, room)
        else:
            room.hear_early(envelope)
        if self.on_outcome is not None:
            for outcome in envelope.outcomes:
                if outcome.ref.process == self._process:
                    self.on_outcome(outcome)

    def _take(self, name: str, room: HubRoom, envelope: Envelope) -> None:
        if (envelope.key and envelope.key != room.key) or (envelope.epoch and envelope.epoch != room.epoch):
            if room.check is None:
                room.check = once(f"comparison of room {name}", self._compare(name, room), self._tasks)
            return
        room.replace(envelope.replaced)  # now: the event that tells of it may have to wait
        if envelope.first and room.full:  # more comes than can be written: the repair reads it when there is space
            room.known = max(room.known, envelope.last)
        elif envelope.first:
            if envelope.last > room.seq:
                room.park(Run(envelope.first, envelope.last, envelope.frames, envelope.replaced))
        else:
            room.known = max(room.known, envelope.last)
            if envelope.frames and not room.full:
                room.write(envelope.frames)
            if envelope.presence is not None and room.on_presence is not None:
                room.on_presence(envelope.presence)

    async def _compare(self, name: str, room: HubRoom) -> None:
        try:
            await self._check(name, room)
        except Refused as error:  # the reconciler looks again
            logger.warning("Room %s may have been made anew and cannot be read: %s", name, error.__cause__)
        finally:
            room.check = None

    def _advance(self, name: str, room: HubRoom) -> None:
        if room.advance() and room.repair is None:
            room.repair = supervise(f"repair of room {name}", lambda: self._repair(name, room))
            self._tasks.add(room.repair)
            room.repair.add_done_callback(self._tasks.discard)

    async def _repair(self, name: str, room: HubRoom) -> None:
        """Read a hole from the record: one read for the process, never one a member."""
        pause = CROSSED_SECONDS
        await asyncio.sleep(pause)
        while room.known > room.seq:
            await room.has_space()
            read = True
            try:
                async with self._repairs:
                    if room.known <= room.seq:
                        continue  # heard meanwhile
                    run = await self._store.after(name, _identity(room), room.seq, PAGE)
            except Exception as error:
                failed(logger, error, "Room %s: what is missing after %d cannot be read", name, room.seq)
                run, read = Run(room.seq + 1, room.seq, b""), False
            if run.last > room.seq:
                counters.repairs += 1
                room.park(run)
                self._advance(name, room)
                pause = CROSSED_SECONDS
            elif pause >= MAX_REPAIR_PAUSE_SECONDS and read:
                logger.warning(
                    "Room %s: no event after %d is in the record; %d was heard of", name, room.seq, room.known
                )
                room.forget_parked()
            else:
                pause = min(pause * 2, MAX_REPAIR_PAUSE_SECONDS)
                await asyncio.sleep(pause)
        room.repair = None  # not where it failed: then it is begun again

    async def stop(self) -> None:
        """End what runs in the background. Members are the server's to close."""
        for room in self.rooms.values():
            if room.linger is not None:
                room.linger.cancel()
        await cancel(*self._tasks)
        self.rooms.clear()


def _restart(members: list[Member]) -> None:
    for member in members:
        member.restart()


def _identity(room: HubRoom) -> Identity:
    return Identity(room.key, room.epoch)
