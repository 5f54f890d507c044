"""The transaction that stores messages: it numbers them, once each, without a gap.

Separate statements under READ COMMITTED: a single statement would keep the snapshot from before the lock. SQLite's
transactions are IMMEDIATE, which is its lock.
"""

import datetime
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db import DataError, IntegrityError, transaction
from django.utils import timezone

from channelbox.chat.models import Event, Room
from channelbox.realtime.codes import Code

logger = logging.getLogger(__name__)

Id = tuple[str, str]  # sender, the sender's id


@dataclass(frozen=True, slots=True)
class Draft:
    """A message on its way into the record."""

    sender: str
    user_id: int | None
    name: str
    id: str
    kind: str
    text: str

    @property
    def key(self) -> Id:
        return self.sender, self.id


@dataclass(slots=True)
class Outcome:
    """What became of one room's messages."""

    stored: list[Event] = field(default_factory=list)  # new, in the order of their numbers
    known: dict[Id, int] = field(default_factory=dict)  # stored before, with their first numbers
    refused: dict[Id, tuple[Code, str]] = field(default_factory=dict)


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
    known = _known(rooms, drafts)
    now = timezone.now()
    outcomes = {}
    for name, messages in drafts.items():
        room = rooms.get(name)
        if room is None:
            outcomes[name] = _refuse(messages, Code.NO_ROOM, f"There is no room {name}.")
        elif room.closed:
            outcomes[name] = _refuse(messages, Code.NOT_ALLOWED, "This room is closed.")
        else:
            outcomes[name] = _number(room, messages, known, now)
    Event.objects.bulk_create([event for outcome in outcomes.values() for event in outcome.stored])
    changed = [rooms[name] for name, outcome in outcomes.items() if outcome.stored]
    Room.objects.bulk_update(changed, ["last_seq", "changed_at"])
    return outcomes


def _known(rooms: dict[str, Room], drafts: dict[str, list[Draft]]) -> dict[tuple[int, str, str], int]:
    """Which of these are stored already: (room, sender, id) with their numbers. Read after the lock."""
    messages = [message for name in rooms for message in drafts[name]]
    found = Event.objects.filter(
        room__in=[room.pk for room in rooms.values()],
        sender__in={message.sender for message in messages},
        client_id__in={message.id for message in messages},
    )
    return {
        (room, sender, id): seq
        for room, sender, id, seq in found.order_by().values_list("room_id", "sender", "client_id", "seq")
    }


def _number(
    room: Room, messages: list[Draft], known: dict[tuple[int, str, str], int], now: datetime.datetime
) -> Outcome:
    outcome = Outcome()
    for message in messages:
        key = (room.pk, *message.key)
        if (seq := known.get(key)) is not None:
            outcome.known[message.key] = seq
            continue
        room.last_seq += 1
        known[key] = room.last_seq  # twice in one batch is once
        outcome.stored.append(
            Event(
                room=room,
                seq=room.last_seq,
                kind=message.kind,
                sender=message.sender,
                client_id=message.id,
                user_id=message.user_id,
                name=message.name,
                text=message.text,
                at=now,
            )
        )
    if outcome.stored:
        room.changed_at = now
    return outcome
