"""The list of rooms, a page at a time."""

import datetime
import re
from collections.abc import Sequence
from typing import NamedTuple

from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Value, When

from channelbox.chat.models import Event, Room
from channelbox.chat.permissions import Person, open_to
from channelbox.realtime.errors import Code, Refused

PAGE_MAX = 200  # rooms
SEARCH_MAX = 200  # characters
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
CURSOR = re.compile(r"([0-2])-([0-9]{1,16})-([0-9]{1,18})", re.ASCII)
OWN, SPOKEN_IN, SILENT = range(3)


class Page(NamedTuple):
    """Rooms, and the cursor of those that follow; None: there are no more."""

    rooms: Sequence[Room]
    next: str | None


def page(person: Person, *, search: str = "", before: str = "", limit: int = PAGE_MAX) -> Page:
    """Return the rooms that this person may enter, whose name or title has `search` in it, behind the cursor `before`.

    First those to which the person belongs or in which it has spoken, then those in which anybody has, then those in
    which nobody has: who makes many rooms does not hide the others. Within each, newest activity first. Raise Refused
    for what is no cursor, and for a text that nobody searches for.
    """
    if "\0" in search or len(search) > SEARCH_MAX:
        raise Refused(Code.INVALID, f"search is a text of at most {SEARCH_MAX} characters.")
    found = _ranked(person)
    if search:
        found = found.filter(Q(name__icontains=search) | Q(title__icontains=search))
    if before:
        found = found.filter(_behind(before))
    rooms = list(found.order_by(F("rank"), "-changed_at", "-pk")[: limit + 1])
    return Page(rooms[:limit], _cursor(rooms[limit - 1]) if len(rooms) > limit else None)


def _ranked(person: Person) -> QuerySet[Room]:
    own = Q(Exists(Event.objects.filter(room=OuterRef("pk"), sender=person.key)))
    if not person.guest:
        own |= Q(Exists(Room.members.through.objects.filter(room=OuterRef("pk"), user=person.user_id)))
    rank = Case(When(own, then=Value(OWN)), When(last_seq__gt=0, then=Value(SPOKEN_IN)), default=Value(SILENT))
    return open_to(person).annotate(rank=rank)


def _cursor(room: Room) -> str:
    moment = (room.changed_at - EPOCH) // datetime.timedelta(microseconds=1)
    return f"{room.rank}-{moment}-{room.pk}"  # type: ignore[attr-defined]  # annotated


def _behind(cursor: str) -> Q:
    parts = CURSOR.fullmatch(cursor)
    if parts is None:
        raise Refused(Code.INVALID, "before is what next was in an earlier answer.")
    rank, moment, pk = map(int, parts.groups())
    changed_at = EPOCH + datetime.timedelta(microseconds=moment)
    later = Q(changed_at__lt=changed_at) | Q(changed_at=changed_at, pk__lt=pk)
    return Q(rank__gt=rank) | Q(later, rank=rank)
