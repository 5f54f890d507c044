"""The transaction that stores events: it numbers them, once each, without a gap, if their senders may.

Separate statements under READ COMMITTED: a single statement would keep the snapshot from before the lock. SQLite's
transactions are IMMEDIATE, which is its lock.
"""

import datetime
import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db import DataError, IntegrityError, connection, transaction
from django.utils import timezone

from channelbox.chat.draft import Draft, Id
from channelbox.chat.models import Event, Room
from channelbox.chat.removal import Removals
from channelbox.chat.standing import Refusal, Standing
from channelbox.realtime.codes import Code

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of one room's messages."""

    stored: list[Event] = field(default_factory=list)  # new, in the order of their numbers
    known: dict[Id, int] = field(default_factory=dict)  # stored before, with their first numbers
    refused: dict[Id, Refusal] = field(default_factory=dict)
    changed: list[Event] = field(default_factory=list)  # older events that are no longer what they were


def store(drafts: dict[str, list[Draft]]) -> dict[str, Outcome]:
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


def _refuse(messages: Iterable[Draft], code: Code, sentence: str) -> Outcome:
    return Outcome(refused={message.key: (code, sentence) for message in messages})


@transaction.atomic
def _store(drafts: dict[str, list[Draft]]) -> dict[str, Outcome]:
    # In the order of their ids: two workers with the same rooms cannot wait for each other.
    rooms = {r.name: r for r in Room.objects.select_for_update().filter(name__in=drafts).order_by("id")}
    # Everything else is read after the lock.
    numbering = _Numbering(rooms, drafts)
    outcomes = {
        name: numbering.number(rooms[name], messages)
        if name in rooms
        else _refuse(messages, Code.NO_ROOM, f"There is no room {name}.")
        for name, messages in drafts.items()
    }
    Event.objects.bulk_create([event for outcome in outcomes.values() for event in outcome.stored])
    numbering.removals.save()
    _advance([rooms[name] for name, outcome in outcomes.items() if outcome.stored])
    return outcomes


def _advance(rooms: Iterable[Room]) -> None:
    """Writes the rooms' new numbers, in one trip. A signal would have everybody in the rooms looked at anew.

    Not `bulk_update`, which builds a CASE for each field: a third of the whole transaction where rooms are many.
    """
    statement = f"UPDATE {Room._meta.db_table} SET last_seq = %s, changed_at = %s WHERE id = %s"  # noqa: S608
    changed = [(room.last_seq, connection.ops.adapt_datetimefield_value(room.changed_at), room.pk) for room in rooms]
    with connection.cursor() as cursor:
        if len(changed) == 1:  # mostly so: without the pipeline of many
            cursor.execute(statement, changed[0])
        elif changed:
            cursor.executemany(statement, changed)


class _Numbering:
    """One transaction's knowledge: what is stored already, who may, and what is to be removed."""

    def __init__(self, rooms: dict[str, Room], drafts: dict[str, list[Draft]]) -> None:
        messages = list(itertools.chain.from_iterable(drafts[name] for name in rooms))
        self._known = _known(rooms, messages)
        self._standing = Standing.read(rooms.values(), messages)
        self.removals = Removals.read((rooms[name], draft) for name in rooms for draft in drafts[name])
        self._now = timezone.now()

    def number(self, room: Room, messages: list[Draft]) -> Outcome:
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

    def _refusal(self, room: Room, message: Draft) -> Refusal | None:
        return self._standing.refusal(room, message) or self.removals.refusal(room, message, self._standing)


def _known(rooms: dict[str, Room], messages: list[Draft]) -> dict[tuple[int, str, str], int]:
    """Which of these are stored already: (room, sender, id) with their numbers."""
    found = Event.objects.filter(
        room__in=[room.pk for room in rooms.values()],
        sender__in={message.sender for message in messages},
        client_id__in={message.id for message in messages},
    )
    return {
        (room, sender, id): seq
        for room, sender, id, seq in found.order_by().values_list("room_id", "sender", "client_id", "seq")
    }


def _event(room: Room, draft: Draft, now: datetime.datetime) -> Event:
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
