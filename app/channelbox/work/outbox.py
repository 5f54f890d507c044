"""The outbox: what this process's clients sent, on its way to the workers, until it is known what became of it.

For each room one batch is in flight; what comes meanwhile joins the next, so each sender's order holds whatever the
number of workers. A batch that nobody answers is sent again as it was: storing makes it once. A message is in it once,
however often it is sent: were one copy refused and the other stored, its sender would be told two things. And when a
message is refused because the queue is full, so are those of its sender behind it: they would overtake it.

A batch costs a transaction and a write to every member, however many messages it has. So where several people talked at
once just now, the next batch waits a moment for more of them: the larger the room, the longer.

When more is sent than can be stored in time, the rooms with the most to store are refused more: a room where few talk
does not notice those where many do.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from channels.exceptions import ChannelFull
from redis.exceptions import RedisError

from channelbox.realtime import keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.codes import Code, Refused
from channelbox.realtime.counters import counters, observe
from channelbox.realtime.envelope import Answer
from channelbox.realtime.frames import json_frame
from channelbox.realtime.hub import Hub, Room
from channelbox.realtime.members import Member
from channelbox.work.backpressure import ThroughputEstimate
from channelbox.work.queue import WorkLayer

logger = logging.getLogger(__name__)

MARGIN_SECONDS = 0.5  # after the expiry, before a batch is sent again: a worker may have just taken it
BATCH_MOST = 200  # messages
FULL_PAUSE = 0.05
FULL_LONGEST_PAUSE = 1.0
GATHER_SECONDS = 0.001  # for others to join a batch, and so much more for each member of the room here
GATHER_SECONDS_A_MEMBER = 0.000002  # less than half of what a write costs
GATHER_MOST = 0.005
OTHERS_MOST = 2  # connections, the newest, that are told besides the first
HOLD_PAUSE = 1.0  # before a room that could not be opened is tried again

Id = tuple[str, str]  # sender, the sender's id


@dataclass(slots=True)
class Message:
    """One message on its way, and who is told when it is refused or was stored before."""

    sender: str
    user: int | None
    name: str
    id: str
    kind: str
    text: str
    member: Member
    data: dict[str, object] | None = None  # what its kind carries besides
    since: float = field(default_factory=time.monotonic)
    others: tuple[Member, ...] = ()  # who have sent it again, on another connection

    @property
    def key(self) -> Id:
        return self.sender, self.id

    def tell(self, frame: dict[str, object]) -> None:
        """What became of it."""
        frames = json_frame(frame)
        for member in (self.member, *self.others):
            member.write_frames(frames)

    def entry(self) -> list[object]:
        """What the worker gets of it."""
        entry: list[object] = [self.sender, self.user, self.name, self.id, self.kind, self.text]
        return entry if self.data is None else [*entry, self.data]


@dataclass(slots=True)
class _Batch:
    number: int
    messages: list[Message]
    open: dict[Id, Message]  # those of which nobody knows yet what became of them
    tried: bool = False  # it may be in the queue, or stored: from then on it may not be refused here


class _Lane:
    """One room's messages: those in flight and those that wait for them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: dict[Id, Message] = {}  # in the order in which they came
        self.flying: _Batch | None = None
        self.held: Room | None = None
        self.holding = False
        self.resend: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self.waiting) + (len(self.flying.messages) if self.flying is not None else 0)

    def get(self, key: Id) -> Message | None:
        """The message, if its answer is still to come: who sends again what was answered gets an answer of its own."""
        return self.waiting.get(key) or (self.flying.open.get(key) if self.flying is not None else None)


class Outbox:
    """All rooms of this process."""

    def __init__(
        self,
        layer: WorkLayer,
        channel: str,
        kind: str,
        bus: Bus,
        hub: Hub,
        process: str,
        throughput: ThroughputEstimate,
    ) -> None:
        self._layer = layer
        self._channel = channel
        self._kind = kind
        self._bus = bus
        self._hub = hub
        self._process = process
        self._throughput = throughput
        self._size = 0
        self._numbers = itertools.count(1)
        self._lanes: dict[str, _Lane] = {}
        self._batches: dict[int, _Lane] = {}
        self._ready: list[_Lane] = []
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None
        self._holds: set[asyncio.Task[None]] = set()
        hub.outcomes = self

    async def start(self) -> None:
        """Listens for answers and begins to send."""
        await self._bus.subscribe(keys.origin(self._process), self._answered)
        self._task = asyncio.ensure_future(self._run())

    async def stop(self, seconds: float) -> None:
        """Waits up to `seconds` for what is in flight. What is left was never acknowledged; its senders have it."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            logger.warning("%d messages were not stored in time; their senders will send them again", self._size)
        tasks = [*self._holds, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in self._lanes.values():
            if lane.resend is not None:
                lane.resend.cancel()

    def put(self, name: str, message: Message) -> None:
        """Takes a message for a room. Raises Refused when there is no place for it; nothing is kept then."""
        if self.has(name, message.sender, message.id, message.member):
            return
        self.check_place(name, message.id)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(name)
        if not self._size:
            self._throughput.begin()
        self._size += 1
        self._empty.clear()
        counters.sent += 1
        lane.waiting[message.key] = message
        if lane.flying is None and len(lane.waiting) == 1:
            self._soon(lane)

    def has(self, name: str, sender: str, id: str, member: Member) -> bool:
        """Whether this message is on its way already; then this member too is told what becomes of it."""
        lane = self._lanes.get(name)
        message = lane.get((sender, id)) if lane is not None else None
        if message is None:
            return False
        if member is not message.member and member not in message.others:
            message.others = (*message.others, member)[-OTHERS_MOST:]
        return True

    def check_place(self, name: str, id: str) -> None:
        """Raises Refused, for the message of this id, where `put` would.

        There is a place for all that will be stored in time; past that, for a room that has less than its equal share.
        """
        room = self._throughput.room
        if self._size < room:
            return
        if self._size < self._throughput.most and len(self._lanes.get(name, ())) * len(self._lanes) < room:
            return
        raise Refused(
            Code.QUEUE_FULL,
            f"Not sent: {self._size} messages are waiting to be stored. Try again.",
            id=id,
            retry_after=1,
        )

    # --- Sending

    def _soon(self, lane: _Lane) -> None:
        """Has the next batch sent: at once, or a moment later where others are likely to join it."""
        room = self._hub.rooms.get(lane.name)
        if room is None or not room.several:
            self._next(lane)
            return
        pause = min(GATHER_MOST, GATHER_SECONDS + GATHER_SECONDS_A_MEMBER * len(room.members))
        lane.resend = asyncio.get_running_loop().call_later(pause, self._next, lane)

    def _next(self, lane: _Lane) -> None:
        self._ready.append(lane)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            ready, self._ready = self._ready, []
            try:
                await self._launch(ready)
            except Exception:
                # Whatever it was, the other rooms go on, and these are tried again after the deadline.
                logger.exception("Batches could not be sent")
                for lane in ready:
                    self._sent(lane)

    async def _launch(self, lanes: list[_Lane]) -> None:
        """Sends the batches of all rooms that are ready, in one call."""
        for lane in lanes:
            if lane.held is None:
                self._hold(lane)
            elif lane.flying is None and lane.waiting:
                taken = [lane.waiting.pop(key) for key in list(itertools.islice(lane.waiting, BATCH_MOST))]
                lane.flying = _Batch(next(self._numbers), taken, {message.key: message for message in taken})
                self._batches[lane.flying.number] = lane
        lanes = [lane for lane in lanes if lane.flying is not None]
        entries = [self._entry(lane.name, lane.flying) for lane in lanes if lane.flying is not None]
        if not entries:
            return
        try:
            await self._layer.send_many(self._channel, entries)
        except ChannelFull:
            await self._one_by_one(lanes)
            return
        except (RedisError, OSError) as error:
            # It may have arrived all the same: the deadline decides.
            logger.warning("The queue cannot be reached: %s", error)
        for lane in lanes:
            self._sent(lane)

    async def _one_by_one(self, lanes: list[_Lane]) -> None:
        """There is no room for all; perhaps there is for some. The rest waits a moment, then is told."""
        for lane in lanes:
            if (batch := lane.flying) is None:
                continue
            try:
                await self._layer.send_many(self._channel, [self._entry(lane.name, batch)])
            except ChannelFull:
                self._full(lane, batch)
            except (RedisError, OSError):
                self._sent(lane)
            else:
                self._sent(lane)

    def _full(self, lane: _Lane, batch: _Batch) -> None:
        oldest = min(message.since for message in batch.messages)
        waited = time.monotonic() - oldest
        if batch.tried or waited < self._layer.expiry:
            pause = min(FULL_LONGEST_PAUSE, max(FULL_PAUSE, waited / 4))
            lane.resend = asyncio.get_running_loop().call_later(pause, self._next, lane)
            return
        senders = {message.sender for message in batch.messages}
        batch.messages += [lane.waiting.pop(key) for key in list(lane.waiting) if key[0] in senders]
        for message in batch.messages:
            refused = Refused(
                Code.QUEUE_FULL, "Not sent: too much is waiting to be stored. Try again.", id=message.id, retry_after=2
            )
            counters.refused += 1
            message.tell(refused.frame)
        self._finish(lane, batch, handled=0)

    def _sent(self, lane: _Lane) -> None:
        if (batch := lane.flying) is None:
            return
        if batch.tried:
            counters.resent += 1
        batch.tried = True
        delay = self._layer.expiry + MARGIN_SECONDS
        lane.resend = asyncio.get_running_loop().call_later(delay, self._next, lane)

    def _entry(self, name: str, batch: _Batch) -> dict[str, object]:
        return {
            "type": self._kind,
            "room": name,
            "origin": self._process,
            "batch": batch.number,
            "messages": [message.entry() for message in batch.messages],
        }

    def _hold(self, lane: _Lane) -> None:
        """While a batch is in flight its room stays subscribed: the answer is heard there.

        A room that is slow to open, or cannot be opened, holds up nobody else.
        """
        if not lane.holding:
            lane.holding = True
            task = asyncio.ensure_future(self._held(lane))
            self._holds.add(task)
            task.add_done_callback(self._holds.discard)

    async def _held(self, lane: _Lane) -> None:
        while lane.held is None:
            try:
                lane.held = await self._hub.hold(lane.name)
            except Refused:
                await asyncio.sleep(HOLD_PAUSE)
        lane.holding = False
        self._next(lane)

    # --- Answers

    def ended(self, batch: int, elsewhere: Iterable[str]) -> None:
        """The hub has heard the batch come back: all of it is stored but for the ids that are answered elsewhere."""
        if (lane := self._batches.get(batch)) is not None and (flying := lane.flying) is not None:
            left = set(elsewhere)
            now = time.monotonic()
            for message in [each for each in flying.open.values() if each.id not in left]:
                del flying.open[message.key]
                counters.acknowledged += 1
                observe("store", now - message.since)
            self._end_if_done(lane, flying)

    def _answered(self, payload: bytes) -> None:
        answer = Answer.unpack(payload)
        if (lane := self._batches.get(answer.batch)) is None or (flying := lane.flying) is None:
            return
        for sender, id, seq in answer.stored:
            if (message := flying.open.pop((sender, id), None)) is not None:
                message.tell({"type": "stored", "id": id, "seq": seq})
                counters.acknowledged += 1
        for sender, id, code, sentence in answer.refused:
            if (message := flying.open.pop((sender, id), None)) is not None:
                message.tell({"error": sentence, "code": code, "id": id})
                counters.refused += 1
        if answer.stored:
            self._hub.behind(lane.name, max(seq for _, _, seq in answer.stored))
        self._end_if_done(lane, flying)

    def _end_if_done(self, lane: _Lane, batch: _Batch) -> None:
        if not batch.open:
            self._finish(lane, batch, handled=len(batch.messages))

    def _finish(self, lane: _Lane, batch: _Batch, handled: int) -> None:
        if lane.resend is not None:
            lane.resend.cancel()
            lane.resend = None
        del self._batches[batch.number]
        lane.flying = None
        self._size -= len(batch.messages)
        self._throughput.finished(handled, more=self._size > 0)
        if lane.held is not None:
            lane.held.several = len(batch.messages) + len(lane.waiting) > 1
        if lane.waiting:
            self._soon(lane)
            return
        if lane.held is not None:
            self._hub.release(lane.name, lane.held)
        del self._lanes[lane.name]
        if not self._size:
            self._empty.set()
