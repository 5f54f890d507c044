"""The room list, one page at a time."""

import datetime
import re
from collections.abc import Sequence
from typing import NamedTuple

from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Value, When

from channelbox.chat.models import Event, Room
from channelbox.chat.permissions import Person, open_to
from channelbox.realtime.errors import Code, Refused

MAX_PAGE_SIZE = 200
MAX_SEARCH_LENGTH = 200  # characters
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
CURSOR = re.compile(r"([0-2])-([0-9]{1,16})-([0-9]{1,18})", re.ASCII)
OWN, SPOKEN_IN, SILENT = range(3)


class Page(NamedTuple):
    """Rooms, and the cursor of the next page; None on the last page."""

    rooms: Sequence[Room]
    next: str | None


def page(person: Person, *, search: str = "", before: str = "", limit: int = MAX_PAGE_SIZE) -> Page:
    """Return a page of the rooms that this person may enter and whose name or title contains `search`.

    `before`: the cursor from the previous page. First come the rooms of which the person is a member or in which they
    have sent something, then rooms in which others have, then empty ones, so that nobody can hide the others by
    creating many rooms. Within each part, the latest activity comes first. Raises Refused for an invalid cursor, and
    for a search text that is too long or contains NUL.
    """
    if "\0" in search or len(search) > MAX_SEARCH_LENGTH:
        raise Refused(Code.INVALID, f"search must be a text of at most {MAX_SEARCH_LENGTH} characters.")
    found = _ranked(person)
    if search:
        found = found.filter(Q(name__icontains=search) | Q(title__icontains=search))
    if before:
        found = found.filter(_after_cursor(before))
    rooms = list(found.order_by(F("rank"), "-changed_at", "-pk")[: limit + 1])
    return Page(rooms[:limit], _cursor(rooms[limit - 1]) if len(rooms) > limit else None)


def _ranked(person: Person) -> QuerySet[Room]:
    own = Q(Exists(Event.objects.filter(room=OuterRef("pk"), sender=person.key)))
    if not person.guest:
        own |= Q(Exists(Room.members.through.objects.filter(room=OuterRef("pk"), user=person.user_id)))
    rank = Case(When(own, then=Value(OWN)), When(last_seq__gt=0, then=Value(SPOKEN_IN)), default=Value(SILENT))
    return open_to(person).annotate(rank=rank)


def _cursor(room: Room) -> str:
    microseconds = (room.changed_at - EPOCH) // datetime.timedelta(microseconds=1)
    return f"{room.rank}-{microseconds}-{room.pk}"  # type: ignore[attr-defined]  # annotated


def _after_cursor(cursor: str) -> Q:
    parts = CURSOR.fullmatch(cursor)
    if parts is None:
        raise Refused(Code.INVALID, "before must be the value of next from an earlier response.")
    rank, microseconds, pk = map(int, parts.groups())
    changed_at = EPOCH + datetime.timedelta(microseconds=microseconds)
    later = Q(changed_at__lt=changed_at) | Q(changed_at=changed_at, pk__lt=pk)
    return Q(rank__gt=rank) | Q(later, rank=rank)
