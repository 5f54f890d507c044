"""The outbox: messages of this process's clients on their way to the workers, until each has its outcome.

For each room one batch is in flight. Messages that arrive meanwhile join the next batch, so each sender's order holds
whatever the number of workers. A batch without an outcome is sent again unchanged; the store stores it once. A message
that is sent several times is in the outbox once: if one copy were refused and another stored, its sender would get two
different answers. When a message is refused because the queue is full, the later messages of its sender are refused
too, because they would overtake it.

A batch costs a transaction and a write to every member, however many messages it has. Therefore, where several people
talked at once just now, the next batch waits a moment for more messages: the larger the room, the longer.

When more is sent than can be stored in time, the rooms with the most to store are refused most. Their batches go to the
queue's bulk list, by separate calls, so rooms with little to store do not wait behind them (like the sparse flows of
FQ-CoDel, RFC 8290). When the outbox is full, the newest messages of the room with the most are evicted in favour of a
room that has less than its equal share: a room without outcomes keeps no other room out.

Batches go to the queue on the Redis host on which their room is published. Each host has a sender and an equal part of
the bounds: a host that is away holds up no room of another.
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
from channelbox.work.outbox_backlogs import RESERVE, Call, HostSender, InFlight, RoomBacklog
from channelbox.work.pending_message import PendingMessage
from channelbox.work.queue import WorkLayer

logger = logging.getLogger(__name__)

DEADLINE_MARGIN_SECONDS = 0.5  # after the expiry, before a batch is sent again: a worker may just have taken it
MAX_BATCH = 200  # messages
MAX_BATCH_BYTES = 256 * 1024  # of their texts; one message may have more
MAX_CALL_BATCHES = 500  # batches in one call: they are packed in one turn of the event loop
MAX_CALL_BYTES = 1024 * 1024  # of their texts
MAX_FULL_TRIES = 8  # batches in a row that a full queue rejects, after which the others are not tried
MIN_FULL_PAUSE_SECONDS = 0.05
MAX_FULL_PAUSE_SECONDS = 1.0
BATCH_DELAY_SECONDS = 0.001  # that a batch waits for more messages, besides the time for each member
BATCH_DELAY_SECONDS_PER_MEMBER = 0.000002  # of the room in this process: less than half of what a write costs
MAX_BATCH_DELAY_SECONDS = 0.005
REOPEN_SECONDS = 1.0  # before a room that could not be opened is tried again
QUEUE_FULL_SENTENCE = "Not sent: too many messages are waiting to be stored. Try again."


class Outbox:
    """The outbox of this process, for all rooms.

    layer, channel: the queue to which batches are sent. kind: the `type` of its entries.
    process: the name of this process, by which it recognises the outcomes of its batches.
    bounds: what may be held; each Redis host gets an equal part.

    The owner hands `settle` to the hub, which hears the outcomes.
    """

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
        self._host_senders = [HostSender(host, bounds.divided(layer.hosts)) for host in range(layer.hosts)]
        self._empty = asyncio.Event()
        self._empty.set()
        self._opening_tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start sending."""
        for host_sender in self._host_senders:
            for bulk in (False, True):
                name = f"outbox of host {host_sender.host}{', bulk' if bulk else ''}"
                host_sender.tasks.append(asyncio.create_task(self._run(host_sender, bulk=bulk), name=name))

    async def stop(self, seconds: float) -> None:
        """Wait up to `seconds` until every message has its outcome, then stop.

        Messages that are left were never acknowledged; their senders still have them.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            logger.warning(
                "%d messages were not stored before the shutdown deadline; their senders will send them again",
                self._message_count,
            )
        tasks = [*self._opening_tasks, *(task for host_sender in self._host_senders for task in host_sender.tasks)]
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
        """Accept a message for a room. If it is on its way already, only have this connection told of its outcome too.

        `admit` may raise Refused. It is called last, so that a message that is refused for another reason is not
        counted against anybody. Raises Refused when there is no capacity, or when too many connections wait for this
        message already. A message that is refused is not kept.
        """
        backlog = self._backlogs.get(room)
        if backlog is not None and (pending := backlog.get(message.event.key)) is not None:
            self._add_recipient(pending, room, message.member)
            return
        host_sender = backlog.host_sender if backlog is not None else self._host_senders[self._bus.host(room.name)]
        self._check_capacity(host_sender, backlog, room, message.event.id)
        if admit is not None:
            admit(message)
        if backlog is None:
            backlog = self._backlogs[room] = RoomBacklog(room, host_sender)
            host_sender.backlogs.add(backlog)
        if not backlog.host_sender.on_time:
            backlog.host_sender.throughput.restart()
        self._empty.clear()
        counters.sent += 1
        message.add_recipient(message.member, self._hub.written_to(room.name, message.member), ())
        backlog.put(message)
        if backlog.in_flight is None and len(backlog.waiting) == 1:
            self._schedule_batch(backlog)

    def _add_recipient(self, message: PendingMessage, room: RoomRef, member: Member) -> None:
        hub_room = self._hub.rooms.get(room.name)
        message.add_recipient(
            member, self._hub.written_to(room.name, member), hub_room.members if hub_room is not None else ()
        )

    def _check_capacity(self, host_sender: HostSender, backlog: RoomBacklog | None, room: RoomRef, id: str) -> None:
        """Raise Refused, for the message with this id, if there is no capacity. May evict messages of another room.

        There is capacity for what will be stored in time; beyond that, for a room that is below its equal share.
        """
        messages, size, late = (backlog.messages, backlog.bytes, backlog.late) if backlog is not None else (0, 0, False)
        in_time = host_sender.throughput.capacity
        held = host_sender.late if late else host_sender.on_time
        if held < in_time or messages * len(host_sender.backlogs) < in_time:
            if host_sender.messages < host_sender.max_messages and host_sender.bytes < host_sender.max_bytes:
                return
            if self._evict(host_sender, messages, size):
                return
        raise Refused(
            Code.QUEUE_FULL,
            f"Not sent: {host_sender.messages} messages are waiting to be stored. Try again.",
            id=id,
            retry_after=1,
        )

    def _evict(self, host_sender: HostSender, messages: int, size: int) -> bool:
        """Return whether a full outbox can take one more message of a room that holds `messages` and `size` bytes.

        Evicts messages of the largest room, or uses the reserve.
        """
        if not host_sender.is_below_share(messages, size):
            return False
        evicted = host_sender.evict(messages, size)
        for message in evicted:
            message.tell_refused(Code.QUEUE_FULL, QUEUE_FULL_SENTENCE, 2)
        return host_sender.has_reserve and (bool(evicted) or host_sender.is_below_share(messages, size, RESERVE))

    @property
    def _message_count(self) -> int:
        return sum(host_sender.messages for host_sender in self._host_senders)

    # --- Sending

    def _schedule_batch(self, backlog: RoomBacklog) -> None:
        """Make the next batch ready: at once, or after a moment where more messages are likely to join it."""
        room = self._hub.rooms.get(backlog.room.name)
        if room is None or not room.several:
            backlog.host_sender.add(backlog)
            return
        pause = min(MAX_BATCH_DELAY_SECONDS, BATCH_DELAY_SECONDS + BATCH_DELAY_SECONDS_PER_MEMBER * len(room.members))
        backlog.batch_timer = asyncio.get_running_loop().call_later(pause, backlog.host_sender.add, backlog)

    async def _run(self, host_sender: HostSender, *, bulk: bool) -> None:
        ready_backlogs = host_sender.ready_bulk if bulk else host_sender.ready
        while True:
            ready = await ready_backlogs.take()
            try:
                await self._send(host_sender, ready, bulk=bulk)
            except Exception:
                # Whatever the error, the other rooms go on, and these are tried again after the deadline.
                counters.restarted += 1
                logger.exception("Cannot send batches")
                for backlog in ready:
                    if backlog in host_sender.ready_bulk or backlog in host_sender.ready:  # for a later call
                        continue
                    if backlog.in_flight is not None:
                        self._start_deadline(backlog, backlog.in_flight)
                    else:
                        asyncio.get_running_loop().call_later(REOPEN_SECONDS, host_sender.add, backlog)

    async def _send(self, host_sender: HostSender, backlogs: list[RoomBacklog], *, bulk: bool) -> None:
        """Send the batches of these rooms to one of the queue's lists, in one call. Those beyond its limits go next."""
        call = Call(MAX_CALL_BATCHES, MAX_CALL_BYTES)
        for backlog in backlogs:
            if backlog.is_bulk and not bulk:  # it grew since it became ready
                host_sender.ready_bulk.add(backlog)
            elif (batch := self._prepare(backlog)) is not None and not call.add(backlog, batch):
                host_sender.add(backlog)
        if not (sending := call.batches):
            return
        entries = [self._queue_entry(backlog, batch) for backlog, batch in sending.items()]
        try:
            await self._layer.send_many(self._channel, entries, host_sender.host, bulk=bulk)
        except ChannelFull:
            await self._send_each(host_sender, sending, bulk=bulk)
            return
        except (RedisError, OSError) as error:
            # The batches may have arrived all the same: the deadline decides.
            logger.warning("Cannot reach the queue: %s", error)
        for backlog, batch in sending.items():
            self._start_deadline(backlog, batch)

    def _prepare(self, backlog: RoomBacklog) -> InFlight | None:
        """Return the batch to send, which is the one in flight or the next; None if there is none to send now."""
        if not backlog:  # the outcome arrived in the same turn as the deadline
            return None
        if backlog.hub_room is None or self._hub.rooms.get(backlog.room.name) is not backlog.hub_room:
            self._open_room(backlog)
            return None
        if backlog.in_flight is None and backlog.waiting:
            batch = backlog.next_batch(next(self._numbers), MAX_BATCH, MAX_BATCH_BYTES)
            self._batches[batch.number] = backlog
        if backlog.in_flight is not None:
            backlog.in_flight.cancel_timers()
        return backlog.in_flight

    async def _send_each(self, host_sender: HostSender, sending: dict[RoomBacklog, InFlight], *, bulk: bool) -> None:
        """Send the batches one at a time; some may still fit. The others wait a moment, or are refused.

        Each is a round trip to Redis, during which the batches that become ready wait: so a full list is not tried for
        all of them. If Redis fails meanwhile, the batches that were not sent are ready again for the next call.
        """
        lost, full = False, 0
        for backlog, batch in sending.items():
            if lost:
                host_sender.add(backlog)
                continue
            if full == MAX_FULL_TRIES:
                self._back_off_or_refuse(backlog, batch)
                continue
            try:
                await self._layer.send_many(
                    self._channel, [self._queue_entry(backlog, batch)], host_sender.host, bulk=bulk
                )
            except ChannelFull:
                full += 1
                self._back_off_or_refuse(backlog, batch)
            except (RedisError, OSError):
                lost = True
                self._start_deadline(backlog, batch)
            else:
                full = 0
                self._start_deadline(backlog, batch)

    def _back_off_or_refuse(self, backlog: RoomBacklog, batch: InFlight) -> None:
        """Retry a batch that a full queue rejected, after a pause; refuse it once it has waited for the expiry.

        A batch that was sent before may be stored, so it is never refused here.
        """
        if backlog.in_flight is not batch:  # the outcome arrived meanwhile
            return
        waited = time.monotonic() - min(message.since for message in batch.messages.values())
        if batch.tried or waited < self._layer.expiry:
            if waited >= self._layer.expiry:
                backlog.set_late()
            pause = min(MAX_FULL_PAUSE_SECONDS, max(MIN_FULL_PAUSE_SECONDS, waited / 4))
            batch.backoff = asyncio.get_running_loop().call_later(pause, backlog.host_sender.add, backlog)
            return
        # The later messages of these senders would overtake theirs.
        senders = {message.event.sender for message in batch.messages.values()}
        for key in [key for key in backlog.waiting if key[0] in senders]:
            batch.add(backlog.waiting.pop(key))
        for message in batch.messages.values():
            message.tell_refused(Code.QUEUE_FULL, QUEUE_FULL_SENTENCE, 2)
        self._finish(backlog, batch, stored=0)

    def _start_deadline(self, backlog: RoomBacklog, batch: InFlight) -> None:
        """Start the deadline of a batch that was sent, or may have been: without an outcome by then, it is resent."""
        if backlog.in_flight is not batch:  # the outcome arrived meanwhile
            return
        if batch.tried:
            counters.resent += 1
            backlog.set_late()
        batch.tried = True
        batch.cancel_timers()
        delay = self._layer.expiry + DEADLINE_MARGIN_SECONDS
        batch.deadline = asyncio.get_running_loop().call_later(delay, backlog.host_sender.add, backlog)

    def _queue_entry(self, backlog: RoomBacklog, batch: InFlight) -> dict[str, object]:
        ref = BatchRef(self._process, batch.number)
        events = [message.event for message in batch.messages.values()]
        return Batch(ref, backlog.room, events).entry(self._kind)

    def _open_room(self, backlog: RoomBacklog) -> None:
        """Have the hub subscribe to the room, and stay subscribed while a batch is in flight: outcomes arrive there.

        This runs in a task, so that a room that is slow to open, or cannot be opened, holds up no other.
        """
        if not backlog.opening:
            backlog.opening = True
            task = supervise(f"opening of room {backlog.room.name} for its batches", lambda: self._hold_room(backlog))
            self._opening_tasks.add(task)
            task.add_done_callback(self._opening_tasks.discard)

    async def _hold_room(self, backlog: RoomBacklog) -> None:
        while True:
            try:
                hub_room = await self._hub.hold(backlog.room.name)
                break
            except Refused:
                backlog.set_late()
                await asyncio.sleep(REOPEN_SECONDS)
        backlog.opening = False
        if backlog:
            self._release(backlog)
            backlog.hub_room = hub_room
            backlog.host_sender.add(backlog)
        else:  # an outcome arrived meanwhile, and nothing is left to send
            self._hub.release(backlog.room.name, hub_room)

    # --- Outcomes

    def settle(self, outcome: BatchOutcome) -> None:
        """Handle the outcome of a batch of this process: tell its senders what they do not hear in the room itself."""
        backlog = self._batches.get(outcome.ref.number)
        if backlog is None or (batch := backlog.in_flight) is None or batch.number != outcome.ref.number:
            return  # the batch had an outcome before
        if len(outcome.numbers) != len(batch.messages):
            logger.error(
                "Ignored an outcome with %d messages for a batch of %d", len(outcome.numbers), len(batch.messages)
            )
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
        backlog.host_sender.throughput.record(stored, more=backlog.host_sender.on_time > 0)
        if backlog.hub_room is not None:
            backlog.hub_room.several = len(batch.messages) + len(backlog.waiting) > 1
        if backlog.waiting:
            self._schedule_batch(backlog)
            return
        self._release(backlog)
        del self._backlogs[backlog.room]
        backlog.host_sender.backlogs.discard(backlog)
        if not self._backlogs:
            self._empty.set()

    def _release(self, backlog: RoomBacklog) -> None:
        if backlog.hub_room is not None:
            self._hub.release(backlog.room.name, backlog.hub_room)
            backlog.hub_room = None
