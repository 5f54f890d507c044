"""Backlogs of messages to send: one for each room, and a sender for each Redis host with its bounds."""

import asyncio
import time
from dataclasses import dataclass, field
from sys import getsizeof

from channelbox.realtime.envelope import RoomRef
from channelbox.realtime.hub_room import HubRoom
from channelbox.work.backpressure import Bounds, ThroughputEstimate
from channelbox.work.pending_message import Id, PendingMessage

MAX_GIVEN = 50  # messages that give way at once: rooms are looked through for them once for so many
LOOK_SECONDS = 0.1  # before rooms are looked through again, when the largest had less than that to give
BULK_SIZE = 100  # messages of all rooms of a host; up to so many nobody waits long
RESERVE = 0.25  # of the bounds, past them: for rooms with little, when all that is held is in flight


@dataclass(slots=True)
class InFlight:
    """A batch that was handed to the queue, or is about to be."""

    number: int
    messages: dict[Id, PendingMessage] = field(default_factory=dict)  # in the order of the batch
    bytes: int = 0  # of their texts
    tried: bool = False  # it may be in the queue, or stored: from then on it may not be refused here
    deadline: asyncio.TimerHandle | None = None  # for its outcome; then it is sent again
    backoff: asyncio.TimerHandle | None = None  # the queue was full; then it is tried again

    def add(self, message: PendingMessage) -> None:
        self.messages[message.key] = message
        self.bytes += message.size

    def cancel_timers(self) -> None:
        for timer in (self.deadline, self.backoff):
            if timer is not None:
                timer.cancel()
        self.deadline = self.backoff = None


class RoomBacklog:
    """One room's messages: those in flight and those that wait for them."""

    def __init__(self, room: RoomRef, sender: "HostSender") -> None:
        self.room = room
        self.sender = sender
        self.waiting: dict[Id, PendingMessage] = {}  # in the order in which they came
        self.in_flight: InFlight | None = None
        self.messages = self.bytes = 0  # of both
        self.late = False  # without an outcome for longer than the expiry
        self.held: HubRoom | None = None
        self.holding = False
        self.batch_timer: asyncio.TimerHandle | None = None  # for others to join the next batch

    def __len__(self) -> int:
        return self.messages

    @property
    def has_much(self) -> bool:
        """Whether it has more to store than half of its equal share: the others need not wait behind it."""
        messages = self.sender.messages
        return messages > BULK_SIZE and len(self) * len(self.sender.backlogs) * 2 > messages

    def get(self, key: Id) -> PendingMessage | None:
        """Return the message if its outcome is still to come."""
        if (message := self.waiting.get(key)) is not None or self.in_flight is None:
            return message
        return self.in_flight.messages.get(key)

    def put(self, message: PendingMessage) -> None:
        message.size = size = getsizeof(message.text)
        self.waiting[message.key] = message
        self._count(1, size)

    def next_batch(self, number: int, messages: int, size: int) -> InFlight:
        """Put the oldest that wait in flight: one, and more up to so many messages and bytes."""
        batch = self.in_flight = InFlight(number)
        for message in self.waiting.values():
            if batch.messages and (len(batch.messages) >= messages or batch.bytes + message.size > size):
                break
            batch.add(message)
        for key in batch.messages:
            del self.waiting[key]
        return batch

    def finish(self, batch: InFlight) -> None:
        """Forget a batch that has its outcome: the room is not late any more."""
        self.in_flight = None
        self._count(-len(batch.messages), -batch.bytes)
        if self.late:
            self.late = False
            self.sender.late -= self.messages

    def evict(self, messages: int) -> list[PendingMessage]:
        """Take out up to so many of those that wait, newest first, so that no message overtakes one of its sender.

        One stays in the backlog.
        """
        given: list[PendingMessage] = []
        while self.waiting and len(self) > 1 and len(given) < messages:
            _, message = self.waiting.popitem()
            self._count(-1, -message.size)
            given.append(message)
        return given

    def set_late(self) -> None:
        if not self.late:
            self.late = True
            self.sender.late += self.messages

    def _count(self, messages: int, size: int) -> None:
        self.messages += messages
        self.bytes += size
        sender = self.sender
        sender.messages += messages
        sender.bytes += size
        if self.late:
            sender.late += messages


class ReadyBacklogs:
    """The backlogs whose batches are to be handed to one list of the queue, in order, each once."""

    def __init__(self) -> None:
        self._backlogs: dict[RoomBacklog, None] = {}
        self._wake = asyncio.Event()

    def __contains__(self, backlog: RoomBacklog) -> bool:
        return backlog in self._backlogs

    def add(self, backlog: RoomBacklog) -> None:
        self._backlogs[backlog] = None
        self._wake.set()

    async def take(self) -> list[RoomBacklog]:
        """Return all, as soon as there is one."""
        await self._wake.wait()
        self._wake.clear()
        backlogs, self._backlogs = list(self._backlogs), {}
        return backlogs


class HostSender:
    """The backlogs of one Redis host, and what they may hold together.

    For each of the queue's two lists, one call at a time takes all backlogs that are ready for it. The lists do not
    wait for each other.

    A backlog without an outcome for longer than the queue's expiry is late. Its messages say nothing of how fast the
    others are stored, and take no place from what is stored in time.
    """

    def __init__(self, host: int, bounds: Bounds) -> None:
        self.host = host
        self.most, self.most_bytes, seconds = bounds
        self.throughput = ThroughputEstimate(self.most, seconds)
        self.backlogs: set[RoomBacklog] = set()
        self.messages = self.bytes = 0  # of all backlogs
        self.late = 0  # messages of the backlogs that are late
        self._look_at = 0.0  # time.monotonic(); not before that are all backlogs looked through again
        self.few, self.bulk = ReadyBacklogs(), ReadyBacklogs()
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, backlog: RoomBacklog) -> None:
        """Have a backlog's batch sent."""
        if backlog not in self.few and backlog not in self.bulk:
            (self.bulk if backlog.has_much else self.few).add(backlog)

    @property
    def moving(self) -> int:
        """Messages of the backlogs that are not late."""
        return self.messages - self.late

    @property
    def has_reserve(self) -> bool:
        """Return whether the bounds and the reserve past them are not used up."""
        return self.messages < self.most * (1 + RESERVE) and self.bytes < self.most_bytes * (1 + RESERVE)

    def is_below_share(self, messages: int, size: int, part: float = 1) -> bool:
        """Return whether a backlog with so much has less than its equal share of a part of the bounds."""
        backlogs = len(self.backlogs)
        return messages * backlogs < self.most * part and size * backlogs < self.most_bytes * part

    def evict(self, messages: int, size: int) -> list[PendingMessage]:
        """Take out the newest that wait in the backlog with the most, for one that has less than that."""
        if (now := time.monotonic()) < self._look_at:
            return []
        if self.messages >= self.most:
            largest = max(self.backlogs, key=lambda backlog: len(backlog.waiting))
            more = largest.messages > messages
        else:
            largest = max(self.backlogs, key=lambda backlog: backlog.bytes if backlog.waiting else 0)
            more = largest.bytes > size
        given = largest.evict(MAX_GIVEN) if more else []
        if len(given) < MAX_GIVEN:
            self._look_at = now + LOOK_SECONDS
        return given


class Call:
    """The batches of one call of the queue. `most_bytes`: of their texts; one batch may have more."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.batches: dict[RoomBacklog, InFlight] = {}
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0

    def add(self, backlog: RoomBacklog, batch: InFlight) -> bool:
        """Add a batch, and return whether there was a place for it."""
        if len(self.batches) == self._most or (self.batches and self._bytes + batch.bytes > self._most_bytes):
            return False
        self.batches[backlog] = batch
        self._bytes += batch.bytes
        return True
