"""The rooms that have something to send: a lane for each, and a sender for each Redis host with what it may hold."""

import asyncio
import time
from dataclasses import dataclass, field
from sys import getsizeof

from channelbox.realtime.envelope import RoomRef
from channelbox.realtime.hub_room import HubRoom
from channelbox.work.backpressure import Bounds, ThroughputEstimate
from channelbox.work.message import Id, Message

MAX_GIVEN = 50  # messages that give way at once: rooms are looked through for them once for so many
LOOK_SECONDS = 0.1  # before rooms are looked through again, when the largest had less than that to give
BULK_SIZE = 100  # messages of all rooms of a host; up to so many nobody waits long
RESERVE = 0.25  # of the bounds, past them: for rooms with little, when all that is held is in flight


@dataclass(slots=True)
class InFlight:
    """A batch that was handed to the queue, or is about to be."""

    number: int
    messages: dict[Id, Message] = field(default_factory=dict)  # in the order of the batch
    bytes: int = 0  # of their texts
    tried: bool = False  # it may be in the queue, or stored: from then on it may not be refused here
    deadline: asyncio.TimerHandle | None = None  # for its outcome; then it is sent again
    backoff: asyncio.TimerHandle | None = None  # the queue was full; then it is tried again

    def add(self, message: Message) -> None:
        self.messages[message.key] = message
        self.bytes += message.size

    def cancel_timers(self) -> None:
        for timer in (self.deadline, self.backoff):
            if timer is not None:
                timer.cancel()
        self.deadline = self.backoff = None


class Lane:
    """One room's messages: those in flight and those that wait for them."""

    def __init__(self, room: RoomRef, sender: "HostSender") -> None:
        self.room = room
        self.sender = sender
        self.waiting: dict[Id, Message] = {}  # in the order in which they came
        self.in_flight: InFlight | None = None
        self.messages = self.bytes = 0  # of both
        self.late = False  # without an outcome for longer than the expiry
        self.held: HubRoom | None = None
        self.holding = False
        self.gather: asyncio.TimerHandle | None = None  # for others to join the next batch

    def __len__(self) -> int:
        return self.messages

    @property
    def has_much(self) -> bool:
        """Whether it has more to store than half of its equal share: the others need not wait behind it."""
        messages = self.sender.messages
        return messages > BULK_SIZE and len(self) * len(self.sender.lanes) * 2 > messages

    def get(self, key: Id) -> Message | None:
        """Return the message if its outcome is still to come."""
        if (message := self.waiting.get(key)) is not None or self.in_flight is None:
            return message
        return self.in_flight.messages.get(key)

    def put(self, message: Message) -> None:
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

    def give_way(self, messages: int) -> list[Message]:
        """Take out up to so many of those that wait, newest first, so that no message overtakes one of its sender.

        One stays in the lane.
        """
        given: list[Message] = []
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


class ReadyLanes:
    """The lanes whose batches are to be handed to one list of the queue, in order, each once."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, None] = {}
        self._wake = asyncio.Event()

    def __contains__(self, lane: Lane) -> bool:
        return lane in self._lanes

    def add(self, lane: Lane) -> None:
        self._lanes[lane] = None
        self._wake.set()

    async def take(self) -> list[Lane]:
        """Return all, as soon as there is one."""
        await self._wake.wait()
        self._wake.clear()
        lanes, self._lanes = list(self._lanes), {}
        return lanes


class HostSender:
    """The lanes of one Redis host, and what they may hold together.

    For each of the queue's two lists, one call at a time takes all lanes that are ready for it. The lists do not wait
    for each other.

    A lane without an outcome for longer than the queue's expiry is late. Its messages say nothing of how fast the
    others are stored, and take no place from what is stored in time.
    """

    def __init__(self, host: int, bounds: Bounds) -> None:
        self.host = host
        self.most, self.most_bytes, seconds = bounds
        self.throughput = ThroughputEstimate(self.most, seconds)
        self.lanes: set[Lane] = set()
        self.messages = self.bytes = 0  # of all lanes
        self.late = 0  # messages of the lanes that are late
        self._look_at = 0.0  # time.monotonic(); not before that are all lanes looked through again
        self.few, self.bulk = ReadyLanes(), ReadyLanes()
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, lane: Lane) -> None:
        """Have a lane's batch sent."""
        if lane not in self.few and lane not in self.bulk:
            (self.bulk if lane.has_much else self.few).add(lane)

    @property
    def moving(self) -> int:
        """Messages of the lanes that are not late."""
        return self.messages - self.late

    @property
    def has_reserve(self) -> bool:
        """Return whether the bounds and the reserve past them are not used up."""
        return self.messages < self.most * (1 + RESERVE) and self.bytes < self.most_bytes * (1 + RESERVE)

    def is_below_share(self, messages: int, size: int, part: float = 1) -> bool:
        """Return whether a lane with so much has less than its equal share of a part of the bounds."""
        lanes = len(self.lanes)
        return messages * lanes < self.most * part and size * lanes < self.most_bytes * part

    def give_way(self, messages: int, size: int) -> list[Message]:
        """Take out the newest that wait in the lane with the most, for one that has less than that."""
        if (now := time.monotonic()) < self._look_at:
            return []
        if self.messages >= self.most:
            largest = max(self.lanes, key=lambda lane: len(lane.waiting))
            more = largest.messages > messages
        else:
            largest = max(self.lanes, key=lambda lane: lane.bytes if lane.waiting else 0)
            more = largest.bytes > size
        given = largest.give_way(MAX_GIVEN) if more else []
        if len(given) < MAX_GIVEN:
            self._look_at = now + LOOK_SECONDS
        return given


class Call:
    """The batches of one call of the queue. `most_bytes`: of their texts; one batch may have more."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.batches: dict[Lane, InFlight] = {}
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0

    def add(self, lane: Lane, batch: InFlight) -> bool:
        """Add a batch, and return whether there was a place for it."""
        if len(self.batches) == self._most or (self.batches and self._bytes + batch.bytes > self._most_bytes):
            return False
        self.batches[lane] = batch
        self._bytes += batch.bytes
        return True
