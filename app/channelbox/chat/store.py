"""The transaction that stores events: it numbers each of them once, without gaps, if its sender is permitted to.

It uses separate statements under READ COMMITTED, because a single statement would keep the snapshot from before the
lock. On SQLite, transactions are IMMEDIATE, which takes the write lock. On PostgreSQL, a room that another transaction
has locked is left out and reported as busy. So is a room whose messages need another locked row: that of a sender, or
of a message to be deleted. Whoever holds the lock, the other rooms are stored.
"""

import datetime
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from django.db import DataError, IntegrityError, OperationalError, connection, transaction
from django.utils import timezone

from channelbox.chat import store_sql
from channelbox.chat.deletion import UNKNOWN, Deletions
from channelbox.chat.event_kinds import Kind
from channelbox.chat.models import Event, Room
from channelbox.chat.sender_permissions import Refusal, SenderPermissions
from channelbox.postgresql.errors import is_lock_conflict
from channelbox.realtime.envelope import EventKey, IncomingEvent, RoomRef
from channelbox.realtime.errors import Code

logger = logging.getLogger(__name__)

# After a sender's row was found locked by another transaction, senders' rows are checked for this long before anything
# is written. That costs a batch 0.1 to 0.3 ms. It is not done always; instead, one batch of each worker waits for the
# lock.
CAUTION_SECONDS = 10.0

Incoming = Mapping[RoomRef, Sequence[IncomingEvent]]


@dataclass(slots=True)
class Outcome:
    """The outcome of one room's messages. `epoch`: that of the room's event numbers."""

    epoch: str = ""
    stored: list[Event] = field(default_factory=list)  # new, in the order of their numbers
    known: dict[EventKey, int] = field(default_factory=dict)  # stored before, with their first numbers
    refused: dict[EventKey, Refusal] = field(default_factory=dict)
    changed: list[Event] = field(default_factory=list)  # older events that were changed


class Stored(NamedTuple):
    """The outcome of each room, and the rooms that were busy with locks of others, of which nothing was stored."""

    outcomes: dict[RoomRef, Outcome]
    busy: set[RoomRef]


# SQLite polls for its write lock, at intervals of up to 0.1 s, so the threads of one process take turns with this lock
# instead. It has a timeout for when another process holds SQLite's lock for long: then each thread waits by itself, as
# the last would otherwise wait as long as all threads before it together.
_sqlite_write_lock = threading.Lock()
WRITE_LOCK_SECONDS = 1.0


class _Caution:
    """Remembers whether this process met a lock of another transaction lately."""

    def __init__(self) -> None:
        self._until = 0.0

    def __bool__(self) -> bool:
        return time.monotonic() < self._until

    def renew(self) -> None:
        self._until = time.monotonic() + CAUTION_SECONDS


_caution = _Caution()


def store(incoming: Incoming) -> Stored:
    """Store the messages of some rooms, all in one transaction.

    If a lock makes that fail, it is tried once more without the rooms of locked senders. If another lock or the data of
    a room make it fail, each room is stored alone; a room whose data still fail is refused with the reason. Raises
    OperationalError or InterfaceError when the database cannot be used: then it is unknown whether anything was stored.
    """
    if connection.vendor != "sqlite":
        return _store_all(incoming)
    taken = _sqlite_write_lock.acquire(timeout=WRITE_LOCK_SECONDS)
    try:
        return _store_all(incoming)
    finally:
        if taken:
            _sqlite_write_lock.release()


def _store_all(incoming: Incoming) -> Stored:
    cautious = bool(_caution)
    try:
        return _store(incoming, cautious=cautious)
    except (DataError, IntegrityError, ValueError) as error:
        logger.warning("Cannot store a batch of %d rooms in one transaction: %s", len(incoming), error)
    except OperationalError as error:
        if not is_lock_conflict(error):
            raise
        _caution.renew()
        if not cautious:
            return _store_all(incoming)
    stored = Stored({}, set())
    for room, messages in incoming.items():
        try:
            outcomes, busy = _store({room: messages}, cautious=True, alone=True)
        except OperationalError as error:
            if not is_lock_conflict(error):
                raise
            outcomes, busy = {}, {room}
        except (DataError, IntegrityError, ValueError) as error:
            logger.error("Refused messages for room %s: %s", room.name, error)
            sentence = "The message cannot be stored. Change it and try again."
            outcomes, busy = {room: _refuse(messages, Code.REFUSED, sentence)}, set()
        stored.outcomes.update(outcomes)
        stored.busy.update(busy)
    return stored


def _refuse(messages: Iterable[IncomingEvent], code: Code, sentence: str) -> Outcome:
    return Outcome(refused={message.key: (code, sentence) for message in messages})


@transaction.atomic
def _store(incoming: Incoming, *, cautious: bool, alone: bool = False) -> Stored:
    read = store_sql.read(
        [(ref.key, *message.key) for ref, messages in incoming.items() for message in messages],
        {message.user_id for messages in incoming.values() for message in messages if message.user_id is not None},
        cautious=cautious,
        alone=alone,
    )
    if read.locked_senders:
        _caution.renew()
    numbering = _Numbering(read, incoming)
    outcomes: dict[RoomRef, Outcome] = {}
    busy: set[RoomRef] = set()
    for ref, messages in incoming.items():
        if ref.key not in read.names:
            outcomes[ref] = _refuse(messages, Code.NO_ROOM, f"Room {ref.name} does not exist.")
        elif ref.key not in read.rooms:
            busy.add(ref)
        elif read.rooms[ref.key].name != ref.name:
            # Its members joined under the former name and are subscribed to that.
            outcomes[ref] = _refuse(messages, Code.NO_ROOM, f"Room {ref.name} no longer exists.")
        elif numbering.needs_locked_row(ref.key, messages):
            busy.add(ref)
        else:
            outcomes[ref] = numbering.number(read.rooms[ref.key], messages, ref.epoch)
    stored = [event for outcome in outcomes.values() for event in outcome.stored]
    if stored:
        store_sql.write(stored, [read.rooms[ref.key] for ref, outcome in outcomes.items() if outcome.stored])
    numbering.deletions.save()
    return Stored(outcomes, busy)


class _Numbering:
    """Numbers the events of one transaction: holds what is stored already, who may send, and what is to be deleted."""

    def __init__(self, read: store_sql.Read, incoming: Incoming) -> None:
        rooms = read.rooms
        self._known = read.known
        self._locked_senders = read.locked_senders
        self._permissions = SenderPermissions.of(read.active, rooms.values())
        self.deletions = Deletions.read(
            (rooms[ref.key], message)
            for ref, messages in incoming.items()
            for message in messages
            if ref.key in rooms and (ref.key, *message.key) not in read.known
        )
        self._now = timezone.now()

    def needs_locked_row(self, room: int, messages: Iterable[IncomingEvent]) -> bool:
        """Return whether storing these in the room with this key needs a row that another transaction has locked."""
        return room in self.deletions.locked_rooms or any(
            message.user_id in self._locked_senders and (room, *message.key) not in self._known for message in messages
        )

    def number(self, room: Room, messages: Iterable[IncomingEvent], epoch: str) -> Outcome:
        """Number the messages of a room. `epoch`: that of the event numbers to which they refer."""
        outcome = Outcome(room.full_epoch)
        stale = epoch not in ("", room.full_epoch)
        for message in messages:
            key = (room.pk, *message.key)
            if (seq := self._known.get(key)) is not None:
                outcome.known[message.key] = seq
            elif stale and message.kind == Kind.DELETION:
                outcome.refused[message.key] = UNKNOWN  # after a restored backup, another message has this number
            elif refusal := self._refusal(room, message):
                outcome.refused[message.key] = refusal
            else:
                room.last_seq += 1
                self._known[key] = room.last_seq  # a message that is twice in the batch is stored once
                event = _event(room, message, self._now)
                outcome.stored.append(event)
                if (removed := self.deletions.apply(event)) is not None:
                    outcome.changed.append(removed)
        if outcome.stored:
            room.changed_at = self._now
        return outcome

    def _refusal(self, room: Room, message: IncomingEvent) -> Refusal | None:
        return self._permissions.refusal(room, message) or self.deletions.refusal(room, message, self._permissions)


def _event(room: Room, message: IncomingEvent, now: datetime.datetime) -> Event:
    return Event(
        room=room,
        seq=room.last_seq,
        kind=message.kind,
        sender=message.sender,
        client_id=message.id,
        user_id=message.user_id,
        name=message.name,
        text=message.text,
        data=message.data,
        at=now,
    )
