"""The hub: this process's one subscription to each room, and each room's frames in sequence, once, to each member."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from channelbox.realtime import keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.codes import Close, Code, Refused
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Envelope, Origin
from channelbox.realtime.frames import skip
from channelbox.realtime.members import Member
from channelbox.realtime.replay_buffer import ReplayBuffer

logger = logging.getLogger(__name__)

CROSSED_SECONDS = 0.05  # two workers' publishes that crossed are mostly solved by then
REPAIR_LONGEST_PAUSE = 5.0
OPEN_SECONDS = 10.0
LINGER_SECONDS = 10.0  # a reload or a reconnect finds the room still open
CATCH_UP_MOST = 1000  # events; what is older is read over HTTP
CATCH_UP_BYTES = 1024 * 1024
PAGE = 200  # events in one read


class Run(NamedTuple):
    """The finished frames of the events `first` .. `last`; none of them: first = last + 1.

    `replaced`: the frames of earlier events that these have changed, as they are from now on.
    """

    first: int
    last: int
    frames: bytes
    replaced: Sequence[tuple[int, bytes]] = ()


class Store(Protocol):
    """The record of what was said. Its methods may raise anything: the hub tries again."""

    async def open(self, name: str) -> tuple[int, Run]:
        """A room's key (see `Hub.join`), and its newest events; an empty run ends at the room's newest number."""

    async def after(self, name: str, seq: int, most: int) -> Run:
        """Up to `most` events after `seq`, oldest first, without a hole."""


class Outcomes(Protocol):
    """Who waits for what became of a batch: the outbox."""

    def ended(self, batch: int, elsewhere: Iterable[str]) -> None: ...


Greeting = Callable[[int, int, bool], bytes]  # (newest seq, first seq that follows, resumed) -> frames


class Room:
    """A room as this process sees it."""

    def __init__(self, ready: asyncio.Future[None]) -> None:
        self.ready = ready
        self.key = 0  # which of the rooms that have ever had this name
        self.members: set[Member] = set()
        self.holds = 0  # joining, or with a batch in flight
        self.several = False  # people talked at once just now, here
        self.seq = 0  # the newest number written to the members
        self.known = 0  # the newest number that is known to exist
        self.parked: dict[int, Run] = {}
        self.replay = ReplayBuffer()
        self.unwritten: list[bytes] = []  # of this turn of the loop
        self.unwritten_events = 0
        self.repair: asyncio.Task[None] | None = None
        self.linger: asyncio.TimerHandle | None = None
        self.on_presence: Callable[[tuple[str, list[str] | None, int]], None] | None = None

    def write(self, frames: bytes, events: int = 1) -> None:
        """Writes at the end of this turn of the loop: what comes in one turn goes out in one write a member."""
        if not self.unwritten:
            asyncio.get_running_loop().call_soon(self.flush)
        self.unwritten.append(frames)
        self.unwritten_events += events

    def flush(self) -> None:
        if not self.unwritten:
            return
        frames = self.unwritten[0] if len(self.unwritten) == 1 else b"".join(self.unwritten)
        counters.delivered += self.unwritten_events * len(self.members)
        self.unwritten.clear()
        self.unwritten_events = 0
        for member in self.members:
            member.write_frames(frames)


class Hub:
    """All rooms with members in this process."""

    def __init__(self, bus: Bus, store: Store, process: str) -> None:
        self.rooms: dict[str, Room] = {}
        self.outcomes: Outcomes | None = None
        self.on_open: Callable[[str, Room], None] | None = None
        self._bus = bus
        self._store = store
        self._process = process
        self._tasks: set[asyncio.Task[None]] = set()

    # --- Coming and going

    async def hold(self, name: str) -> Room:
        """Subscribes to a room and keeps it open until `release`. Raises Refused when that takes too long."""
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = Room(asyncio.get_running_loop().create_future())
            self._spawn(self._open(name, room))
        room.holds += 1
        if room.ready.done() and room.ready.exception() is None:  # mostly: no timer is needed then
            return room
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await asyncio.shield(room.ready)
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

    def release(self, name: str, room: Room) -> None:
        room.holds -= 1
        self._close_later(name, room)

    async def join(
        self,
        name: str,
        key: int,
        member: Member,
        after: int | None,
        history: int,
        greet: Greeting,
        last: Callable[[], bytes] = bytes,
    ) -> Room:
        """Writes the greeting, what the member lacks and `last`, and adds it to the room without a gap or a double.

        `key` tells the room from those that had its name and were removed, or renamed: mostly a newer one's is greater.
        `after` is the newest number that the member has, None for a newcomer, who gets the last `history` events.
        Raises Refused when the room cannot be opened.
        """
        room = await self.hold(name)
        if room.key < key or (room.key > key and not room.members):
            self.release(name, room)
            self._replaced(name, room)
            room = await self.hold(name)
        try:
            if room.key != key:
                raise LookupError("it was removed and made anew")
            await self._reach(name, room, after or 0)
            newest = room.seq
            resumed = after is not None and 0 <= after <= newest and newest - after <= CATCH_UP_MOST
            seq = after if resumed and after is not None else max(0, newest - history)
            start, missed = seq, b""
            while (recent := self._recent(room, seq)) is None:
                run = await self._store.after(name, seq, PAGE)
                if run.last <= seq:
                    raise LookupError(f"the record ends at {seq}, the room at {room.seq}")
                if run.last > room.seq:  # stored, and not heard yet: whoever is here gets it now, and once
                    self._park(room, run)
                    self._advance(name, room)
                missed += run.frames
                seq = run.last
                if len(missed) > CATCH_UP_BYTES:  # the greeting tells of the gap; HTTP has the rest, page by page
                    start, missed = seq, b""
            # No await from here to the end: no gap, no double.
            if self.rooms.get(name) is not room:
                raise LookupError("it was removed and made anew")
            room.flush()
            member.write_frames(greet(room.seq, start + 1, resumed and start == after) + missed + recent + last())
            counters.rooms += not room.members
            room.members.add(member)
            return room
        except Refused:
            raise
        except Exception as error:
            logger.warning("Room %s: history cannot be read: %s", name, error)
            raise Refused(
                Code.TRY_LATER, "The room cannot be read just now. Try again.", retry_after=2, close=Close.TRY_LATER
            ) from error
        finally:
            self.release(name, room)

    async def _reach(self, name: str, room: Room, seq: int) -> None:
        """Reads on to a number that a client has heard elsewhere, unless it is not in the record: a backup's is older.

        Redis may have been away from this process alone: to say that the room has less would make the client forget.
        """
        while room.seq < seq:
            before = room.seq
            run = await self._store.after(name, before, PAGE)
            if run.last > before:
                self._park(room, run)
                self._advance(name, room)
            elif room.seq == before:
                return

    @staticmethod
    def _recent(room: Room, seq: int) -> bytes | None:
        return b"" if seq >= room.seq else room.replay.since(seq)

    def leave(self, name: str, member: Member) -> None:
        if (room := self.rooms.get(name)) is not None and member in room.members:
            room.members.discard(member)
            counters.rooms -= not room.members
            self._close_later(name, room)

    async def _open(self, name: str, room: Room) -> None:
        """Subscribes, then reads the newest number: what is published between the two is parked."""
        try:
            await self._bus.subscribe(keys.room(name), lambda payload: self._payload(name, room, payload))
            key, run = await self._store.open(name)
            if self.rooms.get(name) is not room:
                return  # given up meanwhile: nobody waits, and who comes now opens the room anew
            room.key, room.seq = key, run.last
            room.known = max(room.known, run.last)
            if run.frames:
                room.replay.add(run.first, run.last, run.frames)
            if self.on_open is not None:
                self.on_open(name, room)
            room.ready.set_result(None)
            self._advance(name, room)
        except Exception as error:
            logger.warning("Room %s cannot be opened: %s", name, error)
            self._forget(name, room)
            room.ready.set_exception(error)
            room.ready.exception()  # those who wait are told; nobody waiting is no error

    def _close_later(self, name: str, room: Room) -> None:
        if not room.members and not room.holds and room.linger is None:
            room.linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close, name, room)

    def _close(self, name: str, room: Room) -> None:
        room.linger = None
        if room.members or room.holds or self.rooms.get(name) is not room:
            return
        self._forget(name, room)

    def _replaced(self, name: str, room: Room) -> None:
        """Somebody made a room anew that was removed: its numbers begin anew. Who is still in the old one has to go."""
        if self.rooms.get(name) is room:
            counters.rooms -= bool(room.members)
            room.members.clear()
            self._forget(name, room)

    def _forget(self, name: str, room: Room) -> None:
        if self.rooms.get(name) is room:
            del self.rooms[name]
            self._bus.forget(keys.room(name))
        if room.repair is not None:
            room.repair.cancel()

    # --- What is heard

    def _payload(self, name: str, room: Room, payload: bytes) -> None:
        self.heard(name, room, Envelope.unpack(payload))

    def heard(self, name: str, room: Room, envelope: Envelope) -> None:
        """One publish. Writes what is next in sequence, parks what is ahead, drops what was written already."""
        if envelope.first:
            if envelope.last > room.seq:
                self._park(room, Run(envelope.first, envelope.last, envelope.frames, envelope.replaced))
        else:
            room.known = max(room.known, envelope.last)
            if envelope.frames:
                room.write(envelope.frames)
            if envelope.presence is not None and room.on_presence is not None:
                room.on_presence(envelope.presence)
        if room.ready.done():
            self._advance(name, room)
        self._tell(envelope.origins)

    def _tell(self, origins: list[Origin]) -> None:
        if self.outcomes is not None:
            for origin in origins:
                if origin.process == self._process:
                    self.outcomes.ended(origin.batch, origin.elsewhere)

    def _park(self, room: Room, run: Run) -> None:
        room.known = max(room.known, run.last)
        if run.first <= room.seq:  # begins in what was written already
            run = run._replace(first=room.seq + 1, frames=skip(run.frames, room.seq + 1 - run.first))
        if (other := room.parked.get(run.first)) is None or other.last < run.last:
            room.parked[run.first] = run

    def _advance(self, name: str, room: Room) -> None:
        while room.parked:
            run = room.parked.pop(room.seq + 1, None)
            if run is None:
                overtaken = [first for first in room.parked if first <= room.seq]
                if not overtaken:
                    break
                for first in overtaken:
                    old = room.parked.pop(first)
                    if old.last > room.seq:
                        self._park(room, old)
                continue
            room.seq = run.last
            room.replay.add(run.first, run.last, run.frames)
            for seq, frame in run.replaced:
                room.replay.replace(seq, frame)
            room.write(run.frames, run.last - run.first + 1)
        if room.known > room.seq and room.repair is None:
            room.repair = self._spawn(self._repair(name, room))

    # --- Mending

    def behind(self, name: str, seq: int) -> None:
        """The room is known to have reached `seq`: reads what is missing, if anything is."""
        room = self.rooms.get(name)
        if room is not None and seq > room.known:
            room.known = seq
            if room.ready.done():
                self._advance(name, room)

    async def _repair(self, name: str, room: Room) -> None:
        """Reads a hole from the record: one read for the process, never one a member."""
        pause = CROSSED_SECONDS
        try:
            await asyncio.sleep(pause)
            while room.known > room.seq:
                try:
                    run = await self._store.after(name, room.seq, PAGE)
                except Exception as error:
                    logger.warning("Room %s: what is missing after %d cannot be read: %s", name, room.seq, error)
                    run = Run(room.seq + 1, room.seq, b"")
                if run.last > room.seq:
                    counters.repairs += 1
                    self._park(room, run)
                    self._advance(name, room)
                    pause = CROSSED_SECONDS
                else:
                    pause = min(pause * 2, REPAIR_LONGEST_PAUSE)
                    await asyncio.sleep(pause)
        finally:
            room.repair = None

    def _spawn(self, coroutine: "asyncio._CoroutineLike[None]") -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(coroutine)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Ends what runs in the background. Members are the server's to close."""
        for room in self.rooms.values():
            if room.linger is not None:
                room.linger.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.rooms.clear()
