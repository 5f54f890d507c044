"""The hub: subscribes to each room once for this process, and writes its frames in sequence, once, to each member."""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import NamedTuple

from channelbox.realtime import catch_up, history_source, redis_keys
from channelbox.realtime.admission import Source
from channelbox.realtime.background_tasks import cancel, failed, once
from channelbox.realtime.batch_loader import BatchLoader
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import BatchOutcome, Envelope
from channelbox.realtime.errors import Close, Code, Refused
from channelbox.realtime.history_source import HistorySource, Identity, Observed, identity_of
from channelbox.realtime.hub_room import HubRoom, Run, gap_frame, gap_frames
from channelbox.realtime.join_steps import JoinSteps
from channelbox.realtime.members import Member
from channelbox.realtime.room_repairs import RoomRepairs

logger = logging.getLogger(__name__)

OPEN_SECONDS = 10.0
LINGER_SECONDS = 10.0  # an empty room stays open this long, for a page reload or a reconnect
NO_SOURCE = Source(None)  # has no limit of its own, only that of the process
ORPHANED_SECONDS = 5.0  # after which members of a replaced room are disconnected, if nothing else has done so


class Hello(NamedTuple):
    """The room's state for the greeting of a member that joins."""

    newest: int
    floor: int
    resumed: bool  # all events after the number that the client reported follow, except those that no longer exist


class Hub:
    """All rooms with members in this process.

    `on_outcome` is called with the outcome of each batch of this process, `on_open` with each room that was opened, and
    `on_replaced` with the key of each room that was removed, recreated or restored.
    """

    def __init__(self, bus: Bus, store: HistorySource, process: str) -> None:
        self.rooms: dict[str, HubRoom] = {}
        self.on_outcome: Callable[[BatchOutcome], None] | None = None
        self.on_open: Callable[[str, HubRoom], None] | None = None
        self.on_replaced: Callable[[int], None] | None = None
        self._bus = bus
        self._store = store
        self._process = process
        self._tasks: set[asyncio.Task[None]] = set()
        self._repairs = RoomRepairs(store, self._tasks)
        self._catch_ups = catch_up.CatchUps()

    # --- Joining and leaving

    async def hold(self, name: str) -> HubRoom:
        """Open a room, and keep it open until `release` is called.

        Raises Refused if the room cannot be subscribed to and read within OPEN_SECONDS.
        """
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = HubRoom(asyncio.get_running_loop().create_future())
            once(f"opening of room {name}", self._open(name, room), self._tasks)
        room.holds += 1
        if room.opened:  # the usual case, which needs no timer
            return room
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await asyncio.shield(room.ready)
                await JoinSteps.of(asyncio.get_running_loop()).turn()  # many joins may have waited for the room
        except BaseException as error:
            self.release(name, room)
            if isinstance(error, Exception):
                raise Refused(
                    Code.TRY_LATER,
                    "The room cannot be opened right now. Try again.",
                    retry_after=2,
                    close=Close.TRY_LATER,
                ) from error
            raise
        return room

    def release(self, name: str, room: HubRoom) -> None:
        """Release a room that `hold` returned. It is closed later if it is not used any more."""
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
        """Send a member a greeting and the events that it lacks, and add it to the room without a gap or a duplicate.

        `identity`: the room that the member was admitted to. `after`: the newest number that the member has, None for a
        newcomer, which gets the last `history` events. `greet` returns the greeting's frames, `last` the frames to send
        after the events. `source`: the connection whose catch-up limits the bytes are charged to.

        Returns the room. Raises Refused if the room cannot be opened or read, or is another one now.
        """
        room = await self._hold_identified(name, identity)
        account = catch_up.CatchUp(self._catch_ups, source)
        try:
            await self._read_up_to(name, room, after or 0)
            newest = room.seq
            have = None if after is None else max(after, min(room.floor - 1, newest))
            resumed = (
                after is not None and have is not None and 0 <= after <= newest and newest - have <= catch_up.MAX_EVENTS
            )
            seq = have if resumed and have is not None else max(room.floor - 1, newest - history, 0)
            wanted, start, missed = seq, seq, b""
            read = seq - seq % history_source.PAGE_EVENTS  # whole pages, so that joins at one moment share the reads
            while (recent := room.recent(seq)) is None:
                run = await self._read(name, room, read)
                if run.last <= read:
                    raise LookupError(f"the record ends at {read}, the room at {room.seq}")
                read = run.last
                if run.last > room.seq:  # stored but not received yet: the members get it now, and only once
                    room.park(run)
                    self._repairs.advance(name, room)
                if run.last <= seq:
                    continue
                missed += run.after(seq).frames
                seq = run.last
                if not account.keep(len(missed)):
                    start, missed = seq, b""  # reported as a gap; the client reads it over HTTP, page by page
            # No await from here to the end, so that there is no gap and no duplicate.
            if self.rooms.get(name) is not room:
                raise LookupError("it was deleted and re-created")
            if not account.may_send(len(missed) + len(recent)):
                fits = room.replay.newest(catch_up.GUARANTEED_BYTES)
                start, missed = max(start, room.seq if fits is None else fits), b""  # reported as a gap
                recent = room.recent(start) or b""
            account.send(len(missed) + len(recent))
            resumed = resumed and start == have
            gaps = gap_frames(after, have, start)
            # Without this gap, a newcomer that gets no events would take that for the whole history.
            if after is None and wanted < start == room.seq:
                gaps = gap_frame(wanted + 1, start)
            greeting = greet(Hello(room.seq, room.floor, resumed)) + gaps
            member.write_frames(greeting + missed + recent + last())
            counters.rooms += not room.members
            room.add(member)
            return room
        except Refused:
            raise
        except Exception as error:
            logger.warning("Room %s: cannot read the history: %s", name, error)
            raise Refused(
                Code.TRY_LATER, "The room cannot be read right now. Try again.", retry_after=2, close=Close.TRY_LATER
            ) from error
        finally:
            account.end()
            self.release(name, room)

    async def _hold_identified(self, name: str, identity: Identity) -> HubRoom:
        """Hold the room of this identity. Raises Refused if another room has the name now."""
        room = await self.hold(name)
        if identity_of(room) == identity:
            return room
        self.release(name, room)
        if await self._check(name, room):  # the client was admitted before the room was replaced
            raise Refused(Code.TRY_LATER, "The room was re-created. Try again.", close=Close.TRY_LATER)
        room = await self.hold(name)
        if identity_of(room) != identity:
            self.release(name, room)
            raise Refused(Code.TRY_LATER, "The room was re-created. Try again.", close=Close.TRY_LATER)
        return room

    async def _read_up_to(self, name: str, room: HubRoom, seq: int) -> None:
        """Read up to a number that a client got from another process, as far as the database has it.

        Redis may have been unavailable to this process alone. If it reported that the room ends earlier, the client
        would discard events. After a restore, however, the database may end before the number. Raises Refused while the
        room is full: then another process may be ahead of this one.
        """
        while room.seq < seq:
            if room.full:
                raise Refused(
                    Code.TRY_LATER,
                    "This room is too busy right now. Try again.",
                    retry_after=2,
                    close=Close.TRY_LATER,
                )
            before = room.seq
            run = await self._read(name, room, before)
            if run.last > before:
                room.park(run)
                self._repairs.advance(name, room)
            elif room.seq == before:
                return

    async def _read(self, name: str, room: HubRoom, seq: int) -> Run:
        """Read the page after a number, once for all joins that need it at this moment."""
        if room.reads is None:
            room.reads = BatchLoader(functools.partial(self._read_each, name, identity_of(room)))
        if (run := await room.reads.get(seq)) is None:
            raise LookupError(f"nothing read after {seq}")
        return run

    async def _read_each(self, name: str, identity: Identity, seqs: list[int]) -> dict[int, Run]:
        runs = await asyncio.gather(
            *(self._store.after(name, identity, seq, history_source.PAGE_EVENTS) for seq in seqs)
        )
        return dict(zip(seqs, runs, strict=True))

    def leave(self, name: str, member: Member) -> None:
        """Remove a member from a room, if it is there."""
        if (room := self.rooms.get(name)) is not None and member in room.members:
            room.members.discard(member)
            counters.rooms -= not room.members
            self._close_later(name, room)

    def written_to(self, name: str, member: Member) -> int:
        """Return the newest event number of a room that was written to this member, 0 if the room is not open."""
        return room.written_to(member) if (room := self.rooms.get(name)) is not None else 0

    # --- Opening and closing

    async def _open(self, name: str, room: HubRoom) -> None:
        """Subscribe, then read the newest number. Messages that arrive in between are kept."""
        try:
            await self._bus.subscribe(redis_keys.room(name), lambda payload: self._payload(name, room, payload))
            opened = await self._store.open(name)
            if self.rooms.get(name) is not room:
                return  # replaced meanwhile: nobody waits for it, and the next join opens the room again
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
                self._apply(name, room, envelope)
            self._repairs.advance(name, room)
        except Exception as error:
            failed(logger, error, "Room %s cannot be opened", name)
            self._remove(name, room)
            if not room.ready.done():
                room.ready.set_exception(error)
                room.ready.exception()  # marked as retrieved, as it is no error if nobody awaits it

    def _close_later(self, name: str, room: HubRoom) -> None:
        if not room.members and not room.holds and room.linger is None:
            room.linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close, name, room)

    def _close(self, name: str, room: HubRoom) -> None:
        room.linger = None
        if room.members or room.holds or self.rooms.get(name) is not room:
            return
        self._remove(name, room)

    def _remove(self, name: str, room: HubRoom) -> None:
        if self.rooms.get(name) is room:
            del self.rooms[name]
            self._bus.forget(redis_keys.room(name))
        if room.repair is not None:
            room.repair.cancel()

    # --- Rooms that were removed, recreated or restored

    async def _check(self, name: str, room: HubRoom) -> bool:
        """Return whether the database still has this room under this name. If not, the room is given up.

        Raises Refused if the database cannot be read.
        """
        try:
            opened = await self._store.open(name)
        except Exception as error:
            raise Refused(
                Code.TRY_LATER, "The room cannot be read right now. Try again.", retry_after=2, close=Close.TRY_LATER
            ) from error
        self.observe(name, room, Observed(opened.identity, opened.floor, opened.run.last))
        return identity_of(room) == opened.identity

    def give_up(self, name: str, room: HubRoom) -> None:
        """Close a room that was removed, recreated or restored, as its numbers mean other events now."""
        if self.rooms.get(name) is not room:
            return
        counters.rooms -= bool(room.members)
        # Normally the check of permissions tells the members why. If nothing does, they have to reconnect on their own.
        asyncio.get_running_loop().call_later(ORPHANED_SECONDS, _restart_all, list(room.members))
        room.members.clear()
        self._remove(name, room)
        if self.on_replaced is not None:
            self.on_replaced(room.key)

    def observe(self, name: str, room: HubRoom, observed: Observed) -> None:
        """Compare a room with the database: read missing events, and give up a room that was replaced.

        `observed` must have been read after the room was opened; an older result could be about the previous room.
        """
        if self.rooms.get(name) is not room:
            return
        if identity_of(room) != observed.identity:
            self.give_up(name, room)
            return
        room.floor = max(room.floor, observed.floor)
        if observed.seq > room.known:
            room.known = observed.seq
            self._repairs.advance(name, room)

    @staticmethod
    def has_lost(room: HubRoom, observed: Observed, seq: int) -> bool:
        """Return whether the database ends before `seq`, the number that the room had before the database was read.

        Only committed events are published, so the database has lost some in that case.
        """
        return identity_of(room) == observed.identity and observed.seq < seq

    # --- Messages from Redis

    def _payload(self, name: str, room: HubRoom, payload: bytes) -> None:
        self.receive(name, room, Envelope.unpack(payload))

    def receive(self, name: str, room: HubRoom, envelope: Envelope) -> None:
        """Handle an envelope: write events that are next in sequence, keep later ones, drop those already written."""
        if room.ready.done():
            self._apply(name, room, envelope)
            self._repairs.advance(name, room)
        else:
            room.keep_early(envelope)
        if self.on_outcome is not None:
            for outcome in envelope.outcomes:
                if outcome.ref.process == self._process:
                    self.on_outcome(outcome)

    def _apply(self, name: str, room: HubRoom, envelope: Envelope) -> None:
        if (envelope.key and envelope.key != room.key) or (envelope.epoch and envelope.epoch != room.epoch):
            if room.check is None:
                room.check = once(f"comparison of room {name}", self._compare(name, room), self._tasks)
            return
        room.replace(envelope.replaced)  # at once, as the event that announces the change may have to wait
        if envelope.first and room.full:  # too much to write now: the repair reads it when there is space
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
        except Refused as error:  # the reconciler checks again
            logger.warning("Room %s may have been re-created and cannot be read: %s", name, error.__cause__)
        finally:
            room.check = None

    async def stop(self) -> None:
        """End all background tasks. The server closes the members' connections."""
        for room in self.rooms.values():
            if room.linger is not None:
                room.linger.cancel()
        await cancel(*self._tasks)
        self.rooms.clear()


def _restart_all(members: list[Member]) -> None:
    for member in members:
        member.restart()
