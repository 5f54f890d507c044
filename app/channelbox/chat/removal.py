"""Deletions: an event of its own takes away what an earlier one said. That one keeps its number, sender and time."""

from collections.abc import Iterable
from typing import Self

from django.db.models import Q

from channelbox.chat.incoming import IncomingEvent
from channelbox.chat.kinds import SPOKEN, Kind
from channelbox.chat.models import Event, Room
from channelbox.chat.sender_permissions import Refusal, SenderPermissions
from channelbox.realtime.codes import Code

UNKNOWN: Refusal = (Code.NO_MESSAGE, "There is no message with this number.")
GONE: Refusal = (Code.REMOVED, "This message has been removed already.")
NOT_YOURS: Refusal = (Code.NOT_ALLOWED, "Only administrators may remove what others said.")


class Removals:
    """The events that a batch wants removed, read after the rooms' lock. What is changed here is yet to be saved."""

    def __init__(self, targets: dict[tuple[int, int], Event]) -> None:
        self._targets = targets
        self.removed: list[Event] = []

    @classmethod
    def read(cls, wanted: Iterable[tuple[Room, IncomingEvent]]) -> Self:
        """One query where there are deletions, none where there are none."""
        numbers: dict[int, set[int]] = {}
        for room, draft in wanted:
            if draft.kind == Kind.DELETION:
                numbers.setdefault(room.pk, set()).add(_target(draft))
        if not numbers:
            return cls({})
        which = Q()
        for room_id, seqs in numbers.items():
            which |= Q(room_id=room_id, seq__in=seqs)
        return cls({(event.room_id, event.seq): event for event in Event.objects.filter(which)})

    def refusal(self, room: Room, draft: IncomingEvent, permissions: SenderPermissions) -> Refusal | None:
        """Why this deletion is not stored, or None; None for every other kind."""
        if draft.kind != Kind.DELETION:
            return None
        event = self._targets.get((room.pk, _target(draft)))
        if event is None or event.kind not in SPOKEN:
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


def is_removed(event: Event) -> bool:
    return "removed" in (event.data or {})


def _target(draft: IncomingEvent) -> int:
    return int((draft.data or {})["removes"])
