"""Who a client is to the chat, and which rooms it may enter and create."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, cast

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


async def enter(person: Person, name: str) -> Room:
    """The room, made where there is none and this person may. Raises Refused. Looked up with all who come meanwhile."""
    room = cast("Room | Refused", await Bus.current().share(enter_all, _gather).get((person, name)))
    if isinstance(room, Refused):
        raise room
    return room


def _gather() -> Gather[tuple[Person, str], Room | Refused]:
    return Gather(database_sync_to_async(enter_all, thread_sensitive=False))


def enter_all(asked: list[tuple[Person, str]]) -> dict[tuple[Person, str], Room | Refused]:
    """As `enter`, for a thread: one query for the rooms that are there, one more where some are for members only."""
    rooms = {room.name: room for room in Room.objects.filter(name__in={name for _, name in asked})}
    exclusive = [room.pk for room in rooms.values() if room.members_only]
    users = {person.user_id for person, _ in asked if person.user_id}
    members: set[tuple[int, int]] = set()
    if exclusive and users:
        pairs = Room.members.through.objects.filter(room_id__in=exclusive, user_id__in=users)
        members.update(pairs.values_list("room_id", "user_id"))
    entered: dict[tuple[Person, str], Room | Refused] = {}
    for person, name in asked:
        if name not in rooms and may_create(person):
            Room.objects.get_or_create(name=name)
            rooms[name] = Room.objects.get(name=name)  # with the epoch, which the database has drawn
        entered[person, name] = _admit(person, name, rooms.get(name), members)
    return entered


def _admit(person: Person, name: str, room: Room | None, members: set[tuple[int, int]]) -> Room | Refused:
    if room is None:
        return Refused(Code.NO_ROOM, f"There is no room {name}.", close=Close.NOT_ALLOWED)
    if room.closed:
        return Refused(Code.NOT_ALLOWED, "This room is closed.", close=Close.NOT_ALLOWED)
    if room.members_only and (room.pk, person.user_id) not in members:
        return Refused(Code.NOT_ALLOWED, "This room is for its members only.", close=Close.NOT_ALLOWED)
    return room
