"""Deletions: events that remove the content of an earlier one, which keeps its number, sender and time."""

from collections.abc import Iterable
from typing import Self

from django.db import connection
from django.db.models import Q

from channelbox.chat.event_kinds import SPOKEN, Kind
from channelbox.chat.models import Event, Room
from channelbox.chat.sender_permissions import Refusal, SenderPermissions
from channelbox.realtime.envelope import IncomingEvent
from channelbox.realtime.errors import Code

UNKNOWN: Refusal = (Code.NO_MESSAGE, "There is no message with this number.")
GONE: Refusal = (Code.REMOVED, "This message has already been removed.")
NOT_YOURS: Refusal = (Code.NOT_ALLOWED, "Only administrators may remove other people's messages.")


class Deletions:
    """The events whose content a batch removes. They are locked after their rooms, and written only by `save`."""

    def __init__(self, targets: dict[tuple[int, int], Event], locked_rooms: Iterable[int] = ()) -> None:
        self._targets = targets
        self.locked_rooms = frozenset(locked_rooms)  # keys of rooms where another transaction has locked one of these
        self.removed: list[Event] = []

    @classmethod
    def read(cls, wanted: Iterable[tuple[Room, IncomingEvent]]) -> Self:
        """Read and lock the events to be deleted, without waiting for any lock.

        `wanted`: the events to be stored, with their rooms. This takes one query if there are deletions among them, two
        if the event of one is not found, and none otherwise.
        """
        numbers = {(room.pk, _target(incoming)) for room, incoming in wanted if incoming.kind == Kind.DELETION}
        if not numbers:
            return cls({})
        free = Event.objects.filter(_matching(numbers)).select_for_update(skip_locked=True, no_key=True)
        targets = {(event.room_id, event.seq): event for event in free}
        missing = numbers - targets.keys()
        if not missing or not connection.features.has_select_for_update_skip_locked:
            return cls(targets)
        return cls(targets, Event.objects.filter(_matching(missing)).values_list("room_id", flat=True))

    def refusal(self, room: Room, incoming: IncomingEvent, permissions: SenderPermissions) -> Refusal | None:
        """Return why this deletion is not stored; None if it is, and for every other kind of event."""
        if incoming.kind != Kind.DELETION:
            return None
        event = self._targets.get((room.pk, _target(incoming)))
        if event is None or event.seq < room.floor or event.kind not in SPOKEN:
            return UNKNOWN
        if event.sender != incoming.sender and not permissions.is_staff(incoming):
            return NOT_YOURS
        return GONE if is_removed(event) else None

    def apply(self, event: Event) -> Event | None:
        """Remove the content of the event that `event` deletes, and return that one; None if `event` is no deletion."""
        if event.kind != Kind.DELETION or event.data is None:
            return None
        target = self._targets[event.room_id, event.data["removes"]]
        target.text = ""
        target.data = {"removed": {"by": event.name, "seq": event.seq}}
        self.removed.append(target)
        return target

    def save(self) -> None:
        Event.objects.bulk_update(self.removed, ["text", "data"])


def _matching(numbers: Iterable[tuple[int, int]]) -> Q:
    """Return the condition for events with these (room key, number) pairs, of which there is at least one."""
    rooms: dict[int, list[int]] = {}
    for room, seq in numbers:
        rooms.setdefault(room, []).append(seq)
    which = Q()
    for room, seqs in rooms.items():
        which |= Q(room_id=room, seq__in=seqs)
    return which


def is_removed(event: Event) -> bool:
    return "removed" in (event.data or {})


def _target(incoming: IncomingEvent) -> int:
    return int((incoming.data or {})["removes"])
