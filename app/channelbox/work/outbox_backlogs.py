"""Backlogs of messages to send: one for each room, and a sender for each Redis host with its bounds."""

import asyncio
import time
from dataclasses import dataclass, field
from sys import getsizeof

from channelbox.realtime.envelope import EventKey, RoomRef
from channelbox.realtime.hub_room import HubRoom
from channelbox.work.backpressure import Bounds, ThroughputEstimate
from channelbox.work.pending_message import PendingMessage

MAX_EVICTED = 50  # messages in one eviction, for which all rooms of the host are searched once
EVICTION_PAUSE_SECONDS = 0.1  # before the next search, when the largest backlog had fewer than that to evict
MIN_BULK_MESSAGES = 100  # of all rooms of a host, beyond which the bulk list is used; up to it nobody waits long
RESERVE = 0.25  # of the bounds, beyond them: for rooms with few messages when all that is held is in flight


@dataclass(slots=True)
class InFlight:
    """A batch that was handed to the queue, or is about to be."""

    number: int
    messages: dict[EventKey, PendingMessage] = field(default_factory=dict)  # in the order of the batch
    bytes: int = 0  # of their texts
    tried: bool = False  # it may be in the queue, or stored: from then on it may not be refused here
    deadline: asyncio.TimerHandle | None = None  # for its outcome; then it is sent again
    backoff: asyncio.TimerHandle | None = None  # the queue was full; then it is tried again

    def add(self, message: PendingMessage) -> None:
        self.messages[message.event.key] = message
        self.bytes += message.size

    def cancel_timers(self) -> None:
        for timer in (self.deadline, self.backoff):
            if timer is not None:
                timer.cancel()
        self.deadline = self.backoff = None


class RoomBacklog:
    """Messages of one room: the batch in flight and those that wait for the next ones."""

    def __init__(self, room: RoomRef, host_sender: "HostSender") -> None:
        self.room = room
        self.host_sender = host_sender
        self.waiting: dict[EventKey, PendingMessage] = {}  # in the order of their arrival
        self.in_flight: InFlight | None = None
        self.messages = self.bytes = 0  # waiting and in flight
        self.late = False  # without an outcome for longer than the expiry
        self.hub_room: HubRoom | None = None  # held open while there is something to send
        self.opening = False  # the hub's room is being opened
        self.batch_timer: asyncio.TimerHandle | None = None  # until the next batch, so that more messages join it

    def __len__(self) -> int:
        return self.messages

    @property
    def is_bulk(self) -> bool:
        """Return whether it has more than half of its equal share: then other rooms need not wait behind it."""
        messages = self.host_sender.messages
        return messages > MIN_BULK_MESSAGES and len(self) * len(self.host_sender.backlogs) * 2 > messages

    def get(self, key: EventKey) -> PendingMessage | None:
        """Return the message with this key if it has no outcome yet."""
        if (message := self.waiting.get(key)) is not None or self.in_flight is None:
            return message
        return self.in_flight.messages.get(key)

    def put(self, message: PendingMessage) -> None:
        message.size = size = getsizeof(message.event.text)
        self.waiting[message.event.key] = message
        self._count(1, size)

    def next_batch(self, number: int, messages: int, size: int) -> InFlight:
        """Put the oldest waiting messages in flight: at least one, at most `messages` and `size` bytes."""
        batch = self.in_flight = InFlight(number)
        for message in self.waiting.values():
            if batch.messages and (len(batch.messages) >= messages or batch.bytes + message.size > size):
                break
            batch.add(message)
        for key in batch.messages:
            del self.waiting[key]
        return batch

    def finish(self, batch: InFlight) -> None:
        """Drop a batch that has its outcome: the room is no longer late."""
        self.in_flight = None
        self._count(-len(batch.messages), -batch.bytes)
        if self.late:
            self.late = False
            self.host_sender.late -= self.messages

    def evict(self, messages: int) -> list[PendingMessage]:
        """Remove and return up to `messages` waiting ones, newest first, so that none overtakes another of its sender.

        At least one message stays in the backlog.
        """
        evicted: list[PendingMessage] = []
        while self.waiting and len(self) > 1 and len(evicted) < messages:
            _, message = self.waiting.popitem()
            self._count(-1, -message.size)
            evicted.append(message)
        return evicted

    def set_late(self) -> None:
        if not self.late:
            self.late = True
            self.host_sender.late += self.messages

    def _count(self, messages: int, size: int) -> None:
        self.messages += messages
        self.bytes += size
        host_sender = self.host_sender
        host_sender.messages += messages
        host_sender.bytes += size
        if self.late:
            host_sender.late += messages


class ReadyBacklogs:
    """Backlogs whose batches are ready for one list of the queue: in order, each at most once."""

    def __init__(self) -> None:
        self._backlogs: dict[RoomBacklog, None] = {}
        self._wake = asyncio.Event()

    def __contains__(self, backlog: RoomBacklog) -> bool:
        return backlog in self._backlogs

    def add(self, backlog: RoomBacklog) -> None:
        self._backlogs[backlog] = None
        self._wake.set()

    async def take(self) -> list[RoomBacklog]:
        """Remove and return all of them; wait until there is one."""
        await self._wake.wait()
        self._wake.clear()
        backlogs, self._backlogs = list(self._backlogs), {}
        return backlogs


class HostSender:
    """The backlogs of one Redis host, and the bounds of what they hold together.

    The queue has two lists, the first and the bulk list. For each, one call at a time takes all backlogs that are ready
    for it. The lists do not wait for each other.

    A backlog without an outcome for longer than the queue's expiry is late. Its messages do not count in the estimate
    of how fast the others are stored, and take no capacity from what is stored in time.
    """

    def __init__(self, host: int, bounds: Bounds) -> None:
        self.host = host
        self.max_messages, self.max_bytes, seconds = bounds
        self.throughput = ThroughputEstimate(self.max_messages, seconds)
        self.backlogs: set[RoomBacklog] = set()
        self.messages = self.bytes = 0  # of all backlogs
        self.late = 0  # messages of the late backlogs
        self._next_eviction = 0.0  # time.monotonic() before which the backlogs are not searched again
        self.ready, self.ready_bulk = ReadyBacklogs(), ReadyBacklogs()
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, backlog: RoomBacklog) -> None:
        """Mark a backlog as ready: its batch is sent with the next call."""
        if backlog not in self.ready and backlog not in self.ready_bulk:
            (self.ready_bulk if backlog.is_bulk else self.ready).add(backlog)

    @property
    def on_time(self) -> int:
        """Return the number of messages of the backlogs that are not late."""
        return self.messages - self.late

    @property
    def has_reserve(self) -> bool:
        """Return whether the bounds and the reserve beyond them are not used up."""
        return self.messages < self.max_messages * (1 + RESERVE) and self.bytes < self.max_bytes * (1 + RESERVE)

    def is_below_share(self, messages: int, size: int, part: float = 1) -> bool:
        """Return whether a backlog with so much (`size`: bytes) is below its equal share of this part of the bounds."""
        backlogs = len(self.backlogs)
        return messages * backlogs < self.max_messages * part and size * backlogs < self.max_bytes * part

    def evict(self, messages: int, size: int) -> list[PendingMessage]:
        """Remove and return the newest waiting messages of the largest backlog, in favour of a smaller one.

        `messages` and `size` (bytes): what that one has. Empty if no backlog has more, and for a moment after a search
        that found few.
        """
        if (now := time.monotonic()) < self._next_eviction:
            return []
        if self.messages >= self.max_messages:
            largest = max(self.backlogs, key=lambda backlog: len(backlog.waiting))
            more = largest.messages > messages
        else:
            largest = max(self.backlogs, key=lambda backlog: backlog.bytes if backlog.waiting else 0)
            more = largest.bytes > size
        evicted = largest.evict(MAX_EVICTED) if more else []
        if len(evicted) < MAX_EVICTED:
            self._next_eviction = now + EVICTION_PAUSE_SECONDS
        return evicted


class Call:
    """The batches of one call of the queue, bounded by number and by bytes of their texts.

    A single batch may exceed `max_bytes`.
    """

    def __init__(self, max_batches: int, max_bytes: int) -> None:
        self.batches: dict[RoomBacklog, InFlight] = {}
        self._max_batches = max_batches
        self._max_bytes = max_bytes
        self._bytes = 0

    def add(self, backlog: RoomBacklog, batch: InFlight) -> bool:
        """Add a batch if it fits. Return whether it did."""
        if len(self.batches) == self._max_batches or (self.batches and self._bytes + batch.bytes > self._max_bytes):
            return False
        self.batches[backlog] = batch
        self._bytes += batch.bytes
        return True
