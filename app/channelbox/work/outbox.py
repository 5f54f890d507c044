"""The outbox: what this process's clients sent, on its way to the workers, until each message has its outcome.

For each room one batch is in flight; what comes meanwhile joins the next, so each sender's order holds whatever the
number of workers. A batch without an outcome is sent again as it was: storing makes it once. A message is in it once,
however often it is sent: were one copy refused and the other stored, its sender would be told two things. And when a
message is refused because the queue is full, so are those of its sender behind it: they would overtake it.

A batch costs a transaction and a write to every member, however many messages it has. So where several people talked at
once just now, the next batch waits a moment for more of them: the larger the room, the longer.

When more is sent than can be stored in time, the rooms with the most to store are refused most. Their batches go to the
queue's bulk list, by calls of their own, so rooms in which little is said do not wait behind them (as sparse flows in
FQ-CoDel, RFC 8290).
When no more may be held, the newest messages of the room with the most give way to one that has less than its equal
share: a room without outcomes keeps no other out.

Batches go to the queue on the Redis host on which their room is heard, one sender for each host, with an equal part of
what may be held: a host that is away holds up no room of another.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable

from channels.exceptions import ChannelFull
from redis.exceptions import RedisError

from channelbox.realtime.background_tasks import supervise
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters, observe
from channelbox.realtime.envelope import Batch, BatchOutcome, BatchRef, RoomRef
from channelbox.realtime.errors import Code, Refused
from channelbox.realtime.hub import Hub
from channelbox.realtime.members import Member
from channelbox.work.backpressure import Bounds
from channelbox.work.pending_message import PendingMessage
from channelbox.work.queue import WorkLayer
from channelbox.work.room_backlogs import RESERVE, Call, HostSender, InFlight, RoomBacklog

logger = logging.getLogger(__name__)

DEADLINE_MARGIN_SECONDS = 0.5  # after the expiry, before a batch is sent again: a worker may have just taken it
MAX_BATCH = 200  # messages
MAX_BATCH_BYTES = 256 * 1024  # of their texts; one message may have more
MAX_SENT = 500  # batches that are packed at once, in one turn of the event loop
MAX_SENT_BYTES = 1024 * 1024  # of their texts
MAX_FULL_TRIES = 8  # batches in a row for which a full queue has no place, before it is asked no more
MIN_FULL_PAUSE_SECONDS = 0.05
MAX_FULL_PAUSE_SECONDS = 1.0
BATCH_DELAY_SECONDS = 0.001  # for others to join a batch, and so much more for each member of the room here
BATCH_DELAY_SECONDS_PER_MEMBER = 0.000002  # less than half of what a write costs
MAX_BATCH_DELAY_SECONDS = 0.005
REOPEN_SECONDS = 1.0  # before a room that could not be opened is tried again
QUEUE_FULL_SENTENCE = "Not sent: too much is waiting to be stored. Try again."


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
        bounds: Bounds,
    ) -> None:
        self._layer = layer
        self._channel = channel
        self._kind = kind
        self._bus = bus
        self._hub = hub
        self._process = process
        self._numbers = itertools.count(1)
        self._backlogs: dict[RoomRef, RoomBacklog] = {}
        self._batches: dict[int, RoomBacklog] = {}
        self._senders = [HostSender(host, bounds.divided(layer.hosts)) for host in range(layer.hosts)]
        self._empty = asyncio.Event()
        self._empty.set()
        self._holds: set[asyncio.Task[None]] = set()
        hub.on_outcome = self.settle

    async def start(self) -> None:
        """Begin to send."""
        for sender in self._senders:
            for bulk in (False, True):
                name = f"outbox of host {sender.host}{', bulk' if bulk else ''}"
                sender.tasks.append(asyncio.create_task(self._run(sender, bulk=bulk), name=name))

    async def stop(self, seconds: float) -> None:
        """Wait up to `seconds` for what is in flight. What is left was never acknowledged; its senders have it."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            logger.warning("%d messages were not stored in time; their senders will send them again", self._size)
        tasks = [*self._holds, *(task for sender in self._senders for task in sender.tasks)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for backlog in self._backlogs.values():
            if backlog.batch_timer is not None:
                backlog.batch_timer.cancel()
            if backlog.in_flight is not None:
                backlog.in_flight.cancel_timers()

    def put(
        self, room: RoomRef, message: PendingMessage, admit: Callable[[PendingMessage], None] | None = None
    ) -> None:
        """Take a message for a room, unless it is on its way already: then this connection too is told of the outcome.

        `admit` may refuse it. It is asked last: what is not taken otherwise is not counted against anybody. Raises
        Refused when there is no place for it; nothing is kept then.
        """
        backlog = self._backlogs.get(room)
        if backlog is not None and (first := backlog.get(message.key)) is not None:
            self._tell_too(first, room, message.member)
            return
        sender = backlog.sender if backlog is not None else self._senders[self._bus.host(room.name)]
        self._check_place(sender, backlog, room, message.id)
        if admit is not None:
            admit(message)
        if backlog is None:
            backlog = self._backlogs[room] = RoomBacklog(room, sender)
            sender.backlogs.add(backlog)
        if not backlog.sender.moving:
            backlog.sender.throughput.begin()
        self._empty.clear()
        counters.sent += 1
        message.add_recipient(message.member, self._hub.written_to(room.name, message.member), ())
        backlog.put(message)
        if backlog.in_flight is None and len(backlog.waiting) == 1:
            self._schedule_batch(backlog)

    def _tell_too(self, message: PendingMessage, room: RoomRef, member: Member) -> None:
        """Have one more connection told of a message. Raises Refused when too many wait for that."""
        held = self._hub.rooms.get(room.name)
        message.add_recipient(member, self._hub.written_to(room.name, member), held.members if held is not None else ())

    def _check_place(self, sender: HostSender, backlog: RoomBacklog | None, room: RoomRef, id: str) -> None:
        """Raise Refused, for the message of this id, where there is no place. Messages of another room may give way.

        There is a place for all that will be stored in time; past that, for a room that has less than its equal share.
        """
        messages, size, late = (backlog.messages, backlog.bytes, backlog.late) if backlog is not None else (0, 0, False)
        in_time = sender.throughput.room
        if (sender.late if late else sender.moving) < in_time or messages * len(sender.backlogs) < in_time:
            if sender.messages < sender.most and sender.bytes < sender.most_bytes:
                return
            if self._evict(sender, messages, size):
                return
        raise Refused(
            Code.QUEUE_FULL,
            f"Not sent: {sender.messages} messages are waiting to be stored. Try again.",
            id=id,
            retry_after=1,
        )

    def _evict(self, sender: HostSender, messages: int, size: int) -> bool:
        """Make a place in a full outbox for a room with so much in it, at the expense of the room with the most."""
        if not sender.is_below_share(messages, size):
            return False
        given = sender.evict(messages, size)
        for message in given:
            message.tell_refused(Code.QUEUE_FULL, QUEUE_FULL_SENTENCE, 2)
        return sender.has_reserve and (bool(given) or sender.is_below_share(messages, size, RESERVE))

    @property
    def _size(self) -> int:
        return sum(sender.messages for sender in self._senders)

    # --- Sending

    def _schedule_batch(self, backlog: RoomBacklog) -> None:
        """Have the next batch sent: at once, or a moment later where others are likely to join it."""
        room = self._hub.rooms.get(backlog.room.name)
        if room is None or not room.several:
            backlog.sender.add(backlog)
            return
        pause = min(MAX_BATCH_DELAY_SECONDS, BATCH_DELAY_SECONDS + BATCH_DELAY_SECONDS_PER_MEMBER * len(room.members))
        backlog.batch_timer = asyncio.get_running_loop().call_later(pause, backlog.sender.add, backlog)

    async def _run(self, sender: HostSender, *, bulk: bool) -> None:
        ready_lanes = sender.bulk if bulk else sender.few
        while True:
            ready = await ready_lanes.take()
            try:
                await self._send(sender, ready, bulk=bulk)
            except Exception:
                # Whatever it was, the other rooms go on, and these are tried again after the deadline.
                counters.restarted += 1
                logger.exception("Batches could not be sent")
                for backlog in ready:
                    if backlog in sender.bulk or backlog in sender.few:  # it was handed on
                        continue
                    if backlog.in_flight is not None:
                        self._sent(backlog, backlog.in_flight)
                    else:
                        asyncio.get_running_loop().call_later(REOPEN_SECONDS, sender.add, backlog)

    async def _send(self, sender: HostSender, backlogs: list[RoomBacklog], *, bulk: bool) -> None:
        """Send the batches of the rooms that are ready for a list, in one call. What is too much for it goes next."""
        call = Call(MAX_SENT, MAX_SENT_BYTES)
        for backlog in backlogs:
            if backlog.has_much and not bulk:  # since it became ready
                sender.bulk.add(backlog)
            elif (batch := self._prepare(backlog)) is not None and not call.add(backlog, batch):
                sender.add(backlog)
        if not (sending := call.batches):
            return
        entries = [self._entry(backlog, batch) for backlog, batch in sending.items()]
        try:
            await self._layer.send_many(self._channel, entries, sender.host, bulk=bulk)
        except ChannelFull:
            await self._send_each(sender, sending, bulk=bulk)
            return
        except (RedisError, OSError) as error:
            # It may have arrived all the same: the deadline decides.
            logger.warning("The queue cannot be reached: %s", error)
        for backlog, batch in sending.items():
            self._sent(backlog, batch)

    def _prepare(self, backlog: RoomBacklog) -> InFlight | None:
        """Return the batch to send: the one in flight, or the next."""
        if not backlog:  # its outcome came in the same turn as the deadline
            return None
        if backlog.held is None or self._hub.rooms.get(backlog.room.name) is not backlog.held:
            self._hold(backlog)
            return None
        if backlog.in_flight is None and backlog.waiting:
            batch = backlog.next_batch(next(self._numbers), MAX_BATCH, MAX_BATCH_BYTES)
            self._batches[batch.number] = backlog
        if backlog.in_flight is not None:
            backlog.in_flight.cancel_timers()
        return backlog.in_flight

    async def _send_each(self, sender: HostSender, sending: dict[RoomBacklog, InFlight], *, bulk: bool) -> None:
        """Send the batches one at a time; some may still fit. The rest waits a moment, then is refused.

        Each takes a trip to Redis, for which what is ready next waits: so a full list is not asked for all of them.
        When the queue is lost meanwhile, those that were not sent are ready as before, for the next call.
        """
        lost, full = False, 0
        for backlog, batch in sending.items():
            if lost:
                sender.add(backlog)
                continue
            if full == MAX_FULL_TRIES:
                self._full(backlog, batch)
                continue
            try:
                await self._layer.send_many(self._channel, [self._entry(backlog, batch)], sender.host, bulk=bulk)
            except ChannelFull:
                full += 1
                self._full(backlog, batch)
            except (RedisError, OSError):
                lost = True
                self._sent(backlog, batch)
            else:
                full = 0
                self._sent(backlog, batch)

    def _full(self, backlog: RoomBacklog, batch: InFlight) -> None:
        if backlog.in_flight is not batch:  # its outcome came meanwhile
            return
        waited = time.monotonic() - min(message.since for message in batch.messages.values())
        if batch.tried or waited < self._layer.expiry:
            if waited >= self._layer.expiry:
                backlog.set_late()
            pause = min(MAX_FULL_PAUSE_SECONDS, max(MIN_FULL_PAUSE_SECONDS, waited / 4))
            batch.backoff = asyncio.get_running_loop().call_later(pause, backlog.sender.add, backlog)
            return
        senders = {message.sender for message in batch.messages.values()}
        for key in [key for key in backlog.waiting if key[0] in senders]:
            batch.add(backlog.waiting.pop(key))
        for message in batch.messages.values():
            message.tell_refused(Code.QUEUE_FULL, QUEUE_FULL_SENTENCE, 2)
        self._finish(backlog, batch, stored=0)

    def _sent(self, backlog: RoomBacklog, batch: InFlight) -> None:
        if backlog.in_flight is not batch:  # its outcome came meanwhile
            return
        if batch.tried:
            counters.resent += 1
            backlog.set_late()
        batch.tried = True
        batch.cancel_timers()
        delay = self._layer.expiry + DEADLINE_MARGIN_SECONDS
        batch.deadline = asyncio.get_running_loop().call_later(delay, backlog.sender.add, backlog)

    def _entry(self, backlog: RoomBacklog, batch: InFlight) -> dict[str, object]:
        ref = BatchRef(self._process, batch.number)
        messages = [message.fields() for message in batch.messages.values()]
        return Batch(ref, backlog.room, messages).entry(self._kind)

    def _hold(self, backlog: RoomBacklog) -> None:
        """Keep the room subscribed while a batch is in flight: the outcome is heard there.

        A room that is slow to open, or cannot be opened, holds up nobody else.
        """
        if not backlog.holding:
            backlog.holding = True
            task = supervise(f"opening of room {backlog.room.name} for its batches", lambda: self._keep_open(backlog))
            self._holds.add(task)
            task.add_done_callback(self._holds.discard)

    async def _keep_open(self, backlog: RoomBacklog) -> None:
        while True:
            try:
                held = await self._hub.hold(backlog.room.name)
                break
            except Refused:
                backlog.set_late()
                await asyncio.sleep(REOPEN_SECONDS)
        backlog.holding = False
        if backlog:
            self._release(backlog)
            backlog.held = held
            backlog.sender.add(backlog)
        else:  # an outcome came meanwhile, and nothing is left to send
            self._hub.release(backlog.room.name, held)

    # --- Outcomes

    def settle(self, outcome: BatchOutcome) -> None:
        """Take the outcome of a batch of this process: tell what its senders do not hear in the room itself."""
        backlog = self._batches.get(outcome.ref.number)
        if backlog is None or (batch := backlog.in_flight) is None or batch.number != outcome.ref.number:
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
        self._finish(backlog, batch, stored=len(batch.messages))

    def _finish(self, backlog: RoomBacklog, batch: InFlight, stored: int) -> None:
        batch.cancel_timers()
        del self._batches[batch.number]
        backlog.finish(batch)
        backlog.sender.throughput.finished(stored, more=backlog.sender.moving > 0)
        if backlog.held is not None:
            backlog.held.several = len(batch.messages) + len(backlog.waiting) > 1
        if backlog.waiting:
            self._schedule_batch(backlog)
            return
        self._release(backlog)
        del self._backlogs[backlog.room]
        backlog.sender.backlogs.discard(backlog)
        if not self._backlogs:
            self._empty.set()

    def _release(self, backlog: RoomBacklog) -> None:
        if backlog.held is not None:
            self._hub.release(backlog.room.name, backlog.held)
            backlog.held = None
