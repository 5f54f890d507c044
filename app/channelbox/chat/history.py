"""Reads rooms and events from the database for the hub.

When a process starts or Redis was away, many rooms are opened and many holes are found at the same time. Requests that
arrive while another read is running are combined: two queries for several rooms, and never more than one thread at a
time for openings and one for pages, so that nobody who enters an open room waits for all of them.
"""

import functools
import logging
import operator
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, TypeVar

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Q, QuerySet

from channelbox.chat import serializers
from channelbox.chat.epochs import Installation, installation_epoch
from channelbox.chat.event_kinds import Kind
from channelbox.chat.models import Event, Room
from channelbox.realtime.batch_loader import BatchLoader
from channelbox.realtime.history_source import NO_ROOM, Identity, Observed, Opened
from channelbox.realtime.hub_room import Run, gone

logger = logging.getLogger(__name__)

MAX_OPEN_EVENTS = 200  # with which a room is opened, so that most newcomers find their history in memory
# Many rooms at once are opened with fewer events, but at least CHANNELBOX_HISTORY: a thread is busy for about 50 ms.
MAX_ROOMS_AT_ONCE = 32
MAX_EVENTS_AT_ONCE = 1600
MAX_PAGES_AT_ONCE = 8  # of up to 200 events each

K = TypeVar("K")
V = TypeVar("V")


class Page(NamedTuple):
    """Up to `limit` events of a room that follow number `seq`."""

    name: str
    identity: Identity
    seq: int
    limit: int


class _Range(NamedTuple):
    """The first `limit` events of a room from number `first` to the room's newest."""

    room: Room
    first: int
    limit: int


def _unwrap(answer: V | Exception | None) -> V:
    if answer is None:
        raise LookupError("it was deleted, re-created or restored")
    if isinstance(answer, Exception):
        raise answer
    return answer


def _isolate_errors(read: Callable[[list[K]], Mapping[K, V]]) -> Callable[[list[K]], Mapping[K, V | Exception]]:
    """Wrap `read` so that a key that cannot be read gets the error alone. Errors of the database itself are raised."""

    def read_each(keys: list[K]) -> Mapping[K, V | Exception]:
        try:
            return read(keys)
        except (DatabaseError, OSError):
            raise
        except Exception as error:
            if len(keys) == 1:
                return {keys[0]: error}
            logger.warning("Cannot read %d rooms in one query, reading them one by one: %r", len(keys), error)
        answers: dict[K, V | Exception] = {}
        for key in keys:
            answers.update(read_each([key]))
        return answers

    return read_each


def _open_rooms(names: list[str]) -> dict[str, Opened]:
    rooms = list(_rooms(names))
    limit = min(MAX_OPEN_EVENTS, max(settings.CHANNELBOX_HISTORY, MAX_EVENTS_AT_ONCE // max(len(rooms), 1)))
    found = _read_ranges([_Range(room, max(room.floor, room.last_seq - limit + 1), limit) for room in rooms])
    opened = dict.fromkeys(names, Opened(NO_ROOM.identity, NO_ROOM.floor, Run(1, 0, b"")))
    for room, newest in zip(rooms, found, strict=True):
        run = serializers.newest(newest[::-1], room.last_seq)
        opened[room.name] = Opened(Identity(room.pk, room.full_epoch), room.floor, run)
    return opened


def _read_pages(pages: list[Page]) -> dict[Page, Run]:
    """Read pages. Pages of rooms that were deleted, created again or restored are left out."""
    # First the newest numbers: an event up to them that the next query does not find no longer exists.
    rooms = {room.name: room for room in _rooms({page.name for page in pages})}
    ranges = {
        page: _Range(room, max(page.seq + 1, room.floor), page.limit)
        for page in pages
        if (room := rooms.get(page.name)) is not None and page.identity == (room.pk, room.full_epoch)
    }
    read = dict(zip(ranges, _read_ranges(list(ranges.values())), strict=True))
    changed = _changed_events(read)
    runs = {}
    for page, found in read.items():
        next_seq = found[0].seq if found else ranges[page].room.last_seq + 1
        if next_seq > page.seq + 1:
            runs[page] = gone(page.seq + 1, next_seq - 1)
        else:
            runs[page] = serializers.run(found, page.seq)._replace(replaced=serializers.replaced(changed[page]))
    return runs


def _read_ranges(ranges: list[_Range]) -> list[list[Event]]:
    """Return the events of each range in order, with one query that makes one index lookup per range."""
    table = Event._meta.db_table
    selects, values = [], []
    for number, (room, first, limit) in enumerate(ranges):
        if first <= room.last_seq:
            selects.append(
                f"SELECT * FROM (SELECT {number} AS part, {table}.* FROM {table} "  # noqa: S608 - names of our own
                f"WHERE room_id = %s AND seq BETWEEN %s AND %s ORDER BY seq LIMIT %s) AS part_{number}"
            )
            values += [room.pk, first, room.last_seq, limit]
    found: list[list[Event]] = [[] for _ in ranges]
    for event in Event.objects.raw(" UNION ALL ".join(selects), values) if selects else ():
        found[event.part].append(event)  # type: ignore[attr-defined]  # of the SELECT
    for each in found:
        each.sort(key=lambda event: event.seq)
    return found


def _changed_events(read: Mapping[Page, list[Event]]) -> dict[Page, list[Event]]:
    """Return the events that deletions on these pages have changed, in their present form.

    Events that are on the page themselves are included: the reader may have them already when the page arrives.
    """
    targets = {
        page: {event.data["removes"] for event in found if event.kind == Kind.DELETION and event.data}
        for page, found in read.items()
    }
    rooms = {page: found[0].room_id for page, found in read.items() if targets[page]}
    wanted = [Q(room=room, seq__in=targets[page]) for page, room in rooms.items()]
    there = Event.objects.filter(functools.reduce(operator.or_, wanted)) if wanted else ()
    changed = {(event.room_id, event.seq): event for event in there}
    return {
        page: [changed[key] for seq in sorted(seqs) if (key := (rooms[page], seq)) in changed]
        for page, seqs in targets.items()
    }


def _rooms(names: Collection[str]) -> QuerySet[Room]:
    rooms: QuerySet[Room] = Room.objects.filter(name__in=names)
    return rooms.only("name", "last_seq", "epoch", "floor")


def _observe(names: list[str]) -> dict[str, Observed]:
    return {
        room.name: Observed(Identity(room.pk, room.full_epoch), room.floor, room.last_seq) for room in _rooms(names)
    }


def _renew(identity: Identity) -> None:
    Installation.replace_epoch(installation_epoch(identity.epoch))


class History:
    """The hub's history source, read from the database. Belongs to one event loop."""

    observe = staticmethod(database_sync_to_async(_observe, thread_sensitive=False))
    renew = staticmethod(database_sync_to_async(_renew, thread_sensitive=False))

    def __init__(self) -> None:
        self._openings = BatchLoader(
            database_sync_to_async(_isolate_errors(_open_rooms), thread_sensitive=False), MAX_ROOMS_AT_ONCE
        )
        self._pages = BatchLoader(
            database_sync_to_async(_isolate_errors(_read_pages), thread_sensitive=False), MAX_PAGES_AT_ONCE
        )

    async def open(self, name: str) -> Opened:
        """Return the room that has this name now, with its newest events."""
        opened: Opened = _unwrap(await self._openings.get(name))
        return opened

    async def after(self, name: str, identity: Identity, seq: int, limit: int) -> Run:
        """Return up to `limit` events after number `seq`.

        Raises LookupError if the room of this identity no longer has the name.
        """
        run: Run = _unwrap(await self._pages.get(Page(name, identity, seq, limit)))
        return run
