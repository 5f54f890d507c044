"""The transaction that stores events: it numbers them, once each, without a gap, if their senders may.

Separate statements under READ COMMITTED: a single statement would keep the snapshot from before the lock. SQLite's
transactions are IMMEDIATE, which is its lock.
"""

import datetime
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db import DataError, IntegrityError, transaction
from django.utils import timezone

from channelbox.chat import store_sql
from channelbox.chat.incoming import Id, IncomingEvent
from channelbox.chat.models import Event, Room
from channelbox.chat.removal import Removals
from channelbox.chat.sender_permissions import Refusal, SenderPermissions
from channelbox.realtime.codes import Code

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of one room's messages."""

    stored: list[Event] = field(default_factory=list)  # new, in the order of their numbers
    known: dict[Id, int] = field(default_factory=dict)  # stored before, with their first numbers
    refused: dict[Id, Refusal] = field(default_factory=dict)
    changed: list[Event] = field(default_factory=list)  # older events that are no longer what they were


def store(drafts: dict[str, list[IncomingEvent]]) -> dict[str, Outcome]:
    """Stores the messages of some rooms, by the rooms' names: all in one transaction.

    If the data of one room makes that fail, each room alone; a room that still fails is refused with the reason.
    Raises OperationalError and InterfaceError when the database cannot be used: nothing is known to be stored then.
    """
    try:
        return _store(drafts)
    except (DataError, IntegrityError, ValueError) as error:
        logger.warning("A batch of %d rooms cannot be stored as one: %s", len(drafts), error)
    outcomes: dict[str, Outcome] = {}
    for name, messages in drafts.items():
        try:
            outcomes.update(_store({name: messages}))
        except (DataError, IntegrityError, ValueError) as error:
            logger.error("Messages for room %s are refused: %s", name, error)
            outcomes[name] = _refuse(messages, Code.REFUSED, "The message cannot be stored. Change it and try again.")
    return outcomes


def _refuse(messages: Iterable[IncomingEvent], code: Code, sentence: str) -> Outcome:
    return Outcome(refused={message.key: (code, sentence) for message in messages})


@transaction.atomic
def _store(drafts: dict[str, list[IncomingEvent]]) -> dict[str, Outcome]:
    read = store_sql.read(
        [(name, *message.key) for name, messages in drafts.items() for message in messages],
        {message.user_id for messages in drafts.values() for message in messages if message.user_id is not None},
    )
    rooms = read.rooms
    numbering = _Numbering(read, drafts)
    outcomes = {
        name: numbering.number(rooms[name], messages)
        if name in rooms
        else _refuse(messages, Code.NO_ROOM, f"There is no room {name}.")
        for name, messages in drafts.items()
    }
    stored = [event for outcome in outcomes.values() for event in outcome.stored]
    if stored:
        store_sql.write(stored, [rooms[name] for name, outcome in outcomes.items() if outcome.stored])
    numbering.removals.save()
    return outcomes


class _Numbering:
    """One transaction's knowledge: what is stored already, who may, and what is to be removed."""

    def __init__(self, read: store_sql.Read, drafts: dict[str, list[IncomingEvent]]) -> None:
        rooms = read.rooms
        self._known = read.known
        self._permissions = SenderPermissions.of(read.active, rooms.values())
        self.removals = Removals.read((rooms[name], draft) for name in rooms for draft in drafts[name])
        self._now = timezone.now()

    def number(self, room: Room, messages: list[IncomingEvent]) -> Outcome:
        outcome = Outcome()
        for message in messages:
            key = (room.pk, *message.key)
            if (seq := self._known.get(key)) is not None:
                outcome.known[message.key] = seq
            elif refusal := self._refusal(room, message):
                outcome.refused[message.key] = refusal
            else:
                room.last_seq += 1
                self._known[key] = room.last_seq  # twice in one batch is once
                event = _event(room, message, self._now)
                outcome.stored.append(event)
                if (removed := self.removals.apply(event)) is not None:
                    outcome.changed.append(removed)
        if outcome.stored:
            room.changed_at = self._now
        return outcome

    def _refusal(self, room: Room, message: IncomingEvent) -> Refusal | None:
        return self._permissions.refusal(room, message) or self.removals.refusal(room, message, self._permissions)


def _event(room: Room, draft: IncomingEvent, now: datetime.datetime) -> Event:
    return Event(
        room=room,
        seq=room.last_seq,
        kind=draft.kind,
        sender=draft.sender,
        client_id=draft.id,
        user_id=draft.user_id,
        name=draft.name,
        text=draft.text,
        data=draft.data,
        at=now,
    )
