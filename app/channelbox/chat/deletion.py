"""Deletions: an event of its own takes away what an earlier one said. That one keeps its number, sender and time."""

from collections.abc import Iterable
from typing import Self

from django.db import connection
from django.db.models import Q

from channelbox.chat.event_kinds import SPOKEN, Kind
from channelbox.chat.incoming import IncomingEvent
from channelbox.chat.models import Event, Room
from channelbox.chat.sender_permissions import Refusal, SenderPermissions
from channelbox.realtime.errors import Code

UNKNOWN: Refusal = (Code.NO_MESSAGE, "There is no message with this number.")
GONE: Refusal = (Code.REMOVED, "This message has been removed already.")
NOT_YOURS: Refusal = (Code.NOT_ALLOWED, "Only administrators may remove what others said.")


class Deletions:
    """The events that a batch wants removed, locked after their rooms. What is changed here is yet to be saved."""

    def __init__(self, targets: dict[tuple[int, int], Event], held: Iterable[int] = ()) -> None:
        self._targets = targets
        self.held = frozenset(held)  # the keys of rooms where somebody else has locked one of these events
        self.removed: list[Event] = []

    @classmethod
    def read(cls, wanted: Iterable[tuple[Room, IncomingEvent]]) -> Self:
        """Wait for no lock. One query where there are deletions, two where an event is not found, none elsewhere."""
        numbers = {(room.pk, _target(draft)) for room, draft in wanted if draft.kind == Kind.DELETION}
        if not numbers:
            return cls({})
        free = Event.objects.filter(_among(numbers)).select_for_update(skip_locked=True, no_key=True)
        targets = {(event.room_id, event.seq): event for event in free}
        missing = numbers - targets.keys()
        if not missing or not connection.features.has_select_for_update_skip_locked:
            return cls(targets)
        return cls(targets, Event.objects.filter(_among(missing)).values_list("room_id", flat=True))

    def refusal(self, room: Room, draft: IncomingEvent, permissions: SenderPermissions) -> Refusal | None:
        """Why this deletion is not stored, or None; None for every other kind."""
        if draft.kind != Kind.DELETION:
            return None
        event = self._targets.get((room.pk, _target(draft)))
        if event is None or event.seq < room.floor or event.kind not in SPOKEN:
            return UNKNOWN
        if event.sender != draft.sender and not permissions.is_staff(draft):
            return NOT_YOURS
        return GONE if is_removed(event) else None

    def apply(self, event: Event) -> Event | None:
        """Takes the text of what this event removes; returns that, None where the event removes nothing."""
        if event.kind != Kind.DELETION or event.data is None:
            return None
        target = self._targets[event.room_id, event.data["removes"]]
        target.text = ""
        target.data = {"removed": {"by": event.name, "seq": event.seq}}
        self.removed.append(target)
        return target

    def save(self) -> None:
        Event.objects.bulk_update(self.removed, ["text", "data"])


def _among(numbers: Iterable[tuple[int, int]]) -> Q:
    """Return the condition of events by the keys of their rooms and their numbers. At least one."""
    rooms: dict[int, list[int]] = {}
    for room, seq in numbers:
        rooms.setdefault(room, []).append(seq)
    which = Q()
    for room, seqs in rooms.items():
        which |= Q(room_id=room, seq__in=seqs)
    return which


def is_removed(event: Event) -> bool:
    return "removed" in (event.data or {})


def _target(draft: IncomingEvent) -> int:
    return int((draft.data or {})["removes"])
