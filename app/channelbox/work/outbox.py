"""The outbox: what this process's clients sent, on its way to the workers, until each message has its outcome.

For each room one batch is in flight; what comes meanwhile joins the next, so each sender's order holds whatever the
number of workers. A batch without an outcome is sent again as it was: storing makes it once. A message is in it once,
however often it is sent: were one copy refused and the other stored, its sender would be told two things. And when a
message is refused because the queue is full, so are those of its sender behind it: they would overtake it.

A batch costs a transaction and a write to every member, however many messages it has. So where several people talked at
once just now, the next batch waits a moment for more of them: the larger the room, the longer.

When more is sent than can be stored in time, the rooms with the most to store are refused most.

Batches go to the queue on the Redis host on which their room is heard, one sender for each host: a host that is away
holds up no room of another.
"""

import asyncio
import itertools
import logging
import time
from dataclasses import dataclass

from channels.exceptions import ChannelFull
from redis.exceptions import RedisError

from channelbox.realtime.bus import Bus
from channelbox.realtime.codes import Code, Refused
from channelbox.realtime.counters import counters, observe
from channelbox.realtime.envelope import Batch, BatchOutcome, BatchRef, RoomRef
from channelbox.realtime.hub import Hub
from channelbox.realtime.members import Member
from channelbox.realtime.room import Room
from channelbox.work.backpressure import ThroughputEstimate
from channelbox.work.message import Id, Message
from channelbox.work.queue import WorkLayer

logger = logging.getLogger(__name__)

DEADLINE_MARGIN_SECONDS = 0.5  # after the expiry, before a batch is sent again: a worker may have just taken it
MAX_BATCH = 200  # messages
MIN_FULL_PAUSE_SECONDS = 0.05
MAX_FULL_PAUSE_SECONDS = 1.0
GATHER_SECONDS = 0.001  # for others to join a batch, and so much more for each member of the room here
GATHER_SECONDS_A_MEMBER = 0.000002  # less than half of what a write costs
MAX_GATHER_SECONDS = 0.005
REOPEN_SECONDS = 1.0  # before a room that could not be opened is tried again


@dataclass(slots=True)
class _InFlight:
    """A batch that was handed to the queue, or is about to be."""

    number: int
    messages: dict[Id, Message]  # in the order of the batch
    tried: bool = False  # it may be in the queue, or stored: from then on it may not be refused here
    deadline: asyncio.TimerHandle | None = None  # for its outcome; then it is sent again
    backoff: asyncio.TimerHandle | None = None  # the queue was full; then it is tried again

    def cancel_timers(self) -> None:
        for timer in (self.deadline, self.backoff):
            if timer is not None:
                timer.cancel()
        self.deadline = self.backoff = None


class _Lane:
    """One room's messages: those in flight and those that wait for them."""

    def __init__(self, room: RoomRef, sender: "_HostSender") -> None:
        self.room = room
        self.sender = sender
        self.waiting: dict[Id, Message] = {}  # in the order in which they came
        self.in_flight: _InFlight | None = None
        self.held: Room | None = None
        self.holding = False
        self.gather: asyncio.TimerHandle | None = None  # for others to join the next batch

    def __len__(self) -> int:
        return len(self.waiting) + (len(self.in_flight.messages) if self.in_flight is not None else 0)

    def get(self, key: Id) -> Message | None:
        """Return the message if its outcome is still to come."""
        if (message := self.waiting.get(key)) is not None or self.in_flight is None:
            return message
        return self.in_flight.messages.get(key)


class _HostSender:
    """The lanes of one Redis host that have something to send. One call at a time takes all of them."""

    def __init__(self, host: int) -> None:
        self.host = host
        self._ready: dict[_Lane, None] = {}  # in order, each once
        self._wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def add(self, lane: _Lane) -> None:
        self._ready[lane] = None
        self._wake.set()

    async def take(self) -> list[_Lane]:
        await self._wake.wait()
        self._wake.clear()
        ready, self._ready = list(self._ready), {}
        return ready


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
        self._lanes: dict[RoomRef, _Lane] = {}
        self._batches: dict[int, _Lane] = {}
        self._senders = [_HostSender(host) for host in range(layer.hosts)]
        self._empty = asyncio.Event()
        self._empty.set()
        self._holds: set[asyncio.Task[None]] = set()
        hub.on_outcome = self.settle

    async def start(self) -> None:
        """Begin to send."""
        for sender in self._senders:
            sender.task = asyncio.create_task(self._run(sender), name=f"outbox of host {sender.host}")

    async def stop(self, seconds: float) -> None:
        """Wait up to `seconds` for what is in flight. What is left was never acknowledged; its senders have it."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            logger.warning("%d messages were not stored in time; their senders will send them again", self._size)
        tasks = [*self._holds, *(sender.task for sender in self._senders if sender.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in self._lanes.values():
            if lane.gather is not None:
                lane.gather.cancel()
            if lane.in_flight is not None:
                lane.in_flight.cancel_timers()

    def put(self, room: RoomRef, message: Message) -> None:
        """Take a message for a room. Raises Refused when there is no place for it; nothing is kept then."""
        if self.has(room, message.sender, message.id, message.member):
            return
        self.check_place(room, message.id)
        lane = self._lanes.get(room)
        if lane is None:
            sender = self._senders[self._bus.host(room.name)]
            lane = self._lanes[room] = _Lane(room, sender)
        if not self._size:
            self._throughput.begin()
        self._size += 1
        self._empty.clear()
        counters.sent += 1
        message.add_recipient(message.member, self._hub.seq(room.name))
        lane.waiting[message.key] = message
        if lane.in_flight is None and len(lane.waiting) == 1:
            self._gather(lane)

    def has(self, room: RoomRef, sender: str, id: str, member: Member) -> bool:
        """Return whether this message is on its way already; then this connection too is told of the outcome."""
        lane = self._lanes.get(room)
        message = lane.get((sender, id)) if lane is not None else None
        if message is None:
            return False
        message.add_recipient(member, self._hub.seq(room.name))
        return True

    def check_place(self, room: RoomRef, id: str) -> None:
        """Raise Refused, for the message of this id, where `put` would.

        There is a place for all that will be stored in time; past that, for a room that has less than its equal share.
        """
        in_time = self._throughput.room
        if self._size < in_time:
            return
        if self._size < self._throughput.most and len(self._lanes.get(room, ())) * len(self._lanes) < in_time:
            return
        raise Refused(
            Code.QUEUE_FULL,
            f"Not sent: {self._size} messages are waiting to be stored. Try again.",
            id=id,
            retry_after=1,
        )

    # --- Sending

    def _gather(self, lane: _Lane) -> None:
        """Have the next batch sent: at once, or a moment later where others are likely to join it."""
        room = self._hub.rooms.get(lane.room.name)
        if room is None or not room.several:
            lane.sender.add(lane)
            return
        pause = min(MAX_GATHER_SECONDS, GATHER_SECONDS + GATHER_SECONDS_A_MEMBER * len(room.members))
        lane.gather = asyncio.get_running_loop().call_later(pause, lane.sender.add, lane)

    async def _run(self, sender: _HostSender) -> None:
        while True:
            ready = await sender.take()
            try:
                await self._send(sender, ready)
            except Exception:
                # Whatever it was, the other rooms go on, and these are tried again after the deadline.
                logger.exception("Batches could not be sent")
                for lane in ready:
                    if lane.in_flight is not None:
                        self._sent(lane, lane.in_flight)
                    else:
                        asyncio.get_running_loop().call_later(REOPEN_SECONDS, sender.add, lane)

    async def _send(self, sender: _HostSender, lanes: list[_Lane]) -> None:
        """Send the batches of all rooms that are ready, in one call."""
        sending = {lane: batch for lane in lanes if (batch := self._prepare(lane)) is not None}
        if not sending:
            return
        entries = [self._entry(lane, batch) for lane, batch in sending.items()]
        try:
            await self._layer.send_many(self._channel, entries, sender.host)
        except ChannelFull:
            await self._send_each(sender, sending)
            return
        except (RedisError, OSError) as error:
            # It may have arrived all the same: the deadline decides.
            logger.warning("The queue cannot be reached: %s", error)
        for lane, batch in sending.items():
            self._sent(lane, batch)

    def _prepare(self, lane: _Lane) -> _InFlight | None:
        """Return the batch to send: the one in flight, or the next."""
        if not lane:  # its outcome came in the same turn as the deadline
            return None
        if lane.held is None or self._hub.rooms.get(lane.room.name) is not lane.held:
            self._hold(lane)
            return None
        if lane.in_flight is None and lane.waiting:
            taken = {key: lane.waiting.pop(key) for key in list(itertools.islice(lane.waiting, MAX_BATCH))}
            lane.in_flight = _InFlight(next(self._numbers), taken)
            self._batches[lane.in_flight.number] = lane
        if lane.in_flight is not None:
            lane.in_flight.cancel_timers()
        return lane.in_flight

    async def _send_each(self, sender: _HostSender, sending: dict[_Lane, _InFlight]) -> None:
        """Send the batches one at a time; some may still fit. The rest waits a moment, then is refused."""
        for lane, batch in sending.items():
            try:
                await self._layer.send_many(self._channel, [self._entry(lane, batch)], sender.host)
            except ChannelFull:
                self._full(lane, batch)
            except (RedisError, OSError):
                self._sent(lane, batch)
            else:
                self._sent(lane, batch)

    def _full(self, lane: _Lane, batch: _InFlight) -> None:
        if lane.in_flight is not batch:  # its outcome came meanwhile
            return
        waited = time.monotonic() - min(message.since for message in batch.messages.values())
        if batch.tried or waited < self._layer.expiry:
            pause = min(MAX_FULL_PAUSE_SECONDS, max(MIN_FULL_PAUSE_SECONDS, waited / 4))
            batch.backoff = asyncio.get_running_loop().call_later(pause, lane.sender.add, lane)
            return
        senders = {message.sender for message in batch.messages.values()}
        batch.messages.update({key: lane.waiting.pop(key) for key in list(lane.waiting) if key[0] in senders})
        for message in batch.messages.values():
            message.tell_refused(Code.QUEUE_FULL, "Not sent: too much is waiting to be stored. Try again.", 2)
        self._finish(lane, batch, stored=0)

    def _sent(self, lane: _Lane, batch: _InFlight) -> None:
        if lane.in_flight is not batch:  # its outcome came meanwhile
            return
        if batch.tried:
            counters.resent += 1
        batch.tried = True
        batch.cancel_timers()
        delay = self._layer.expiry + DEADLINE_MARGIN_SECONDS
        batch.deadline = asyncio.get_running_loop().call_later(delay, lane.sender.add, lane)

    def _entry(self, lane: _Lane, batch: _InFlight) -> dict[str, object]:
        ref = BatchRef(self._process, batch.number)
        messages = [message.fields() for message in batch.messages.values()]
        return Batch(ref, lane.room, messages).entry(self._kind)

    def _hold(self, lane: _Lane) -> None:
        """Keep the room subscribed while a batch is in flight: the outcome is heard there.

        A room that is slow to open, or cannot be opened, holds up nobody else.
        """
        if not lane.holding:
            lane.holding = True
            task = asyncio.create_task(self._keep_open(lane))
            self._holds.add(task)
            task.add_done_callback(self._holds.discard)

    async def _keep_open(self, lane: _Lane) -> None:
        try:
            while True:
                try:
                    held = await self._hub.hold(lane.room.name)
                except Refused:
                    await asyncio.sleep(REOPEN_SECONDS)
                    continue
                if lane:
                    self._release(lane)
                    lane.held = held
                    lane.sender.add(lane)
                else:  # an outcome came meanwhile, and nothing is left to send
                    self._hub.release(lane.room.name, held)
                return
        finally:
            lane.holding = False

    # --- Outcomes

    def settle(self, outcome: BatchOutcome) -> None:
        """Take the outcome of a batch of this process: tell what its senders do not hear in the room itself."""
        lane = self._batches.get(outcome.ref.number)
        if lane is None or (batch := lane.in_flight) is None or batch.number != outcome.ref.number:
            return  # it had one before
        if len(outcome.numbers) != len(batch.messages):
            logger.error("An outcome of %d messages for a batch of %d", len(outcome.numbers), len(batch.messages))
            return
        now = time.monotonic()
        for position, (message, seq) in enumerate(zip(batch.messages.values(), outcome.numbers, strict=True)):
            if (refused := outcome.refused.get(position)) is not None:
                message.tell_refused(*refused)
                continue
            counters.acknowledged += 1
            if position in outcome.known:
                message.tell_stored(seq)
            else:
                observe("store", now - message.since)
        self._finish(lane, batch, stored=len(batch.messages))

    def _finish(self, lane: _Lane, batch: _InFlight, stored: int) -> None:
        batch.cancel_timers()
        del self._batches[batch.number]
        lane.in_flight = None
        self._size -= len(batch.messages)
        self._throughput.finished(stored, more=self._size > 0)
        if lane.held is not None:
            lane.held.several = len(batch.messages) + len(lane.waiting) > 1
        if lane.waiting:
            self._gather(lane)
            return
        self._release(lane)
        del self._lanes[lane.room]
        if not self._size:
            self._empty.set()

    def _release(self, lane: _Lane) -> None:
        if lane.held is not None:
            self._hub.release(lane.room.name, lane.held)
            lane.held = None
