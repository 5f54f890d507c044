"""Who a client is to the chat, and which rooms it may enter and create."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db.models import Q, QuerySet

from channelbox.accounts.models import User
from channelbox.chat.models import Room
from channelbox.realtime.bus import Bus
from channelbox.realtime.codes import Close, Code, Refused
from channelbox.realtime.gather import Gather

GUEST_KEY = "guest"  # in the session
IN_LIST = 200  # rooms


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
    return rooms.filter(Q(members_only=False) | Q(members=person.user_id)).distinct()


def newest_first(person: Person) -> QuerySet[Room]:
    """The list of rooms that pages show: as many as anybody looks through."""
    return open_to(person).order_by("-changed_at")[:IN_LIST]


async def enter(person: Person, name: str, admit_new_room: Callable[[], None]) -> Room:
    """Return the room, looked up together with those that others enter meanwhile. Raise Refused.

    Where there is none and this person may, it is made, unless `admit_new_room` raises Refused.
    """
    found = await _look_up(person, name)
    if found is None and may_create(person):
        admit_new_room()
        await database_sync_to_async(Room.objects.get_or_create, thread_sensitive=False)(name=name)
        found = await _look_up(person, name)
    if found is None:
        raise Refused(Code.NO_ROOM, f"There is no room {name}.", close=Close.NOT_ALLOWED)
    if isinstance(found, Refused):
        raise found
    return found


async def _look_up(person: Person, name: str) -> Room | Refused | None:
    return await Bus.current().share(look_up, _look_ups).get((person, name))


def _look_ups() -> Gather[tuple[Person, str], Room | Refused]:
    return Gather(database_sync_to_async(look_up, thread_sensitive=False))


def look_up(asked: list[tuple[Person, str]]) -> dict[tuple[Person, str], Room | Refused]:
    """Rooms by person and name, for a thread: one query, one more where some are for members only.

    What does not exist is left out.
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
