"""Who a client is to the chat, and which rooms it may enter and create."""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import OperationalError
from django.db.models import Exists, OuterRef, Q, QuerySet

from channelbox.accounts.models import User
from channelbox.chat.lock_timeout import atomic_within
from channelbox.chat.models import DeletedName, Room
from channelbox.realtime.admission import Admission, Source
from channelbox.realtime.admission import Kind as Work
from channelbox.realtime.batch_loader import BatchLoader
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Close, Code, Refused
from channelbox.realtime.join_steps import JoinSteps

logger = logging.getLogger(__name__)

MAKE_SECONDS = 2.0  # that making a room waits while the database is written to
RETRY_SECONDS = 3.0
GUEST_KEY = "guest"  # in the session


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may talk: a user, or a guest with an unguessable key. `key` is never empty and names one sender."""

    key: str
    name: str
    user_id: int | None = None
    staff: bool = False

    @property
    def guest(self) -> bool:
        return self.user_id is None


def person_of(user: User | AnonymousUser, session: Any) -> Person:
    """The person behind a session. Raises Refused where it must sign in first.

    A guest keeps its key as long as its session; a client without a session has one for its connection.
    """
    if isinstance(user, User) and user.is_active:
        return Person(f"u:{user.pk}", user.get_username(), user.pk, user.is_staff)
    if not settings.CHANNELBOX_GUESTS:
        raise Refused(Code.SIGN_IN, "Sign in first.", close=Close.SIGN_IN)
    key = (session.get(GUEST_KEY) if session is not None else None) or secrets.token_urlsafe(24)
    return Person(f"g:{key}", f"guest-{hashlib.sha256(key.encode()).hexdigest()[:8]}")


def give_guest_key(session: Any) -> None:
    """Makes a guest the same guest from page to page."""
    if GUEST_KEY not in session:
        session[GUEST_KEY] = secrets.token_urlsafe(24)


def may_create(person: Person) -> bool:
    """Whether this person may open a room that does not exist yet (CHANNELBOX_ROOM_CREATION)."""
    return {"anyone": True, "users": not person.guest, "staff": person.staff}[settings.CHANNELBOX_ROOM_CREATION]


def open_to(person: Person) -> QuerySet[Room]:
    """The rooms that this person may enter."""
    rooms = Room.objects.filter(closed=False)
    if person.guest:
        return rooms.filter(members_only=False)
    memberships = Room.members.through.objects.filter(room=OuterRef("pk"), user=person.user_id)
    return rooms.filter(Q(members_only=False) | Q(Exists(memberships)))


def admit_new_room(person: Person, source: Source) -> None:
    """Count a room that this person is about to make. Raise Refused when those were too many. On the event loop."""
    Admission.current().admit(_new_rooms(person), source)


def no_new_room(person: Person, source: Source) -> None:
    """Count a room no longer that was not made after all. On the event loop."""
    Admission.current().refund(_new_rooms(person), source)


def _new_rooms(person: Person) -> Work:
    return Work.GUEST_ROOMS if person.guest else Work.ROOMS


async def enter(person: Person, name: str, maker: Source | None) -> Room:
    """Return the room, looked up together with those that others enter meanwhile. Raise Refused.

    Where there is none and this person may, it is made, and counted for `maker` if it really was; nobody else waits for
    that. Without a maker it is not made.
    """
    found = await _look_up(person, name)
    if found is None and maker is not None and may_create(person):
        await _make(person, name, maker)
        found = await _look_up(person, name)
    if found is None:
        raise Refused(Code.NO_ROOM, f"There is no room {name}.", close=Close.NOT_ALLOWED)
    if isinstance(found, Refused):
        raise found
    return found


async def _make(person: Person, name: str, maker: Source) -> None:
    """Make a room, or wait for whoever makes it already: however many enter it at once, it is counted once.

    Raise Refused.
    """
    loop = asyncio.get_running_loop()
    makings: dict[str, asyncio.Future[bool]] = Bus.current().share(_make, dict)
    while (making := makings.get(name)) is not None:
        ended = await asyncio.shield(making)
        await JoinSteps.of(loop).turn()
        if ended:
            return
    admit_new_room(person, maker)
    making = makings[name] = loop.create_future()
    try:
        made = await Bus.current().share(make, _makings).get(name)
    except Exception as error:
        making.set_exception(error)
        making.exception()  # told here, should nobody wait
        no_new_room(person, maker)
        raise
    except BaseException:  # this client left: the room may be made all the same, and counts; the next one looks again
        making.set_result(False)
        raise
    else:
        making.set_result(True)
        if not made:  # somebody else was first, or a room of this name was deleted
            no_new_room(person, maker)
    finally:
        del makings[name]


async def _look_up(person: Person, name: str) -> Room | Refused | None:
    return await Bus.current().share(look_up, _look_ups).get((person, name))


def look_up(asked: list[tuple[Person, str]]) -> dict[tuple[Person, str], Room | Refused]:
    """Rooms by person and name, for a thread: one query, one more where some are for members only.

    What does not exist is left out. It only reads, so it waits for nobody who writes.
    """
    rooms = {room.name: room for room in Room.objects.filter(name__in={name for _, name in asked})}
    exclusive = [room.pk for room in rooms.values() if room.members_only]
    users = {person.user_id for person, _ in asked if person.user_id}
    members: set[tuple[int, int]] = set()
    if exclusive and users:
        pairs = Room.members.through.objects.filter(room_id__in=exclusive, user_id__in=users)
        members.update(pairs.values_list("room_id", "user_id"))
    return {(person, name): _admit(person, rooms[name], members) for person, name in asked if name in rooms}


def _admit(person: Person, room: Room, members: set[tuple[int, int]]) -> Room | Refused:
    if room.closed:
        return Refused(Code.NOT_ALLOWED, "This room is closed.", close=Close.NOT_ALLOWED)
    if room.members_only and (room.pk, person.user_id) not in members:
        return Refused(Code.NOT_ALLOWED, "This room is for its members only.", close=Close.NOT_ALLOWED)
    return room


def make(names: Collection[str], wanted: bool = False) -> set[str]:
    """Make rooms of these names where there are none. Return the names of those that were made. For a thread.

    Those of a name whose room was deleted are not made, unless they are `wanted`: somebody asks for them by name. Raise
    Refused when the database is written to by others for longer than `MAKE_SECONDS`.
    """
    try:
        with atomic_within(MAKE_SECONDS):
            deleted = DeletedName.objects.filter(name__in=names)
            if wanted:
                deleted.delete()
            new = set(names).difference(deleted.values_list("name", flat=True))
            new.difference_update(Room.objects.filter(name__in=new).values_list("name", flat=True))
            Room.objects.bulk_create([Room(name=name) for name in sorted(new)], ignore_conflicts=True)
            return new
    except OperationalError as error:
        logger.warning("No room can be made now: %s", error)
        raise Refused(
            Code.TRY_LATER, "No room can be made just now. Try again.", retry_after=RETRY_SECONDS, close=Close.TRY_LATER
        ) from error


def _look_ups() -> BatchLoader[tuple[Person, str], Room | Refused]:
    return BatchLoader(database_sync_to_async(look_up, thread_sensitive=False))


def _makings() -> BatchLoader[str, bool]:
    async def many(names: list[str]) -> dict[str, bool]:
        return dict.fromkeys(await database_sync_to_async(make, thread_sensitive=False)(names), True)

    return BatchLoader(many)
