"""Identifies the person behind a session, and decides which rooms they may enter and create."""

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

CREATE_TIMEOUT_SECONDS = 2.0  # for which creating a room waits while others write to the database
RETRY_SECONDS = 3.0
GUEST_KEY = "guest"  # in the session


@dataclass(frozen=True, slots=True)
class Person:
    """A user, or a guest with an unguessable key. `key` is never empty and identifies one sender."""

    key: str
    name: str
    user_id: int | None = None
    staff: bool = False

    @property
    def guest(self) -> bool:
        return self.user_id is None


def person_of(user: User | AnonymousUser, session: Any) -> Person:
    """Return the person behind a session. Raises Refused if they must sign in first.

    A guest keeps the key as long as the session; a client without a session gets one for its connection.
    """
    if isinstance(user, User) and user.is_active:
        return Person(f"u:{user.pk}", user.get_username(), user.pk, user.is_staff)
    if not settings.CHANNELBOX_GUESTS:
        raise Refused(Code.SIGN_IN, "Sign in first.", close=Close.SIGN_IN)
    key = (session.get(GUEST_KEY) if session is not None else None) or secrets.token_urlsafe(24)
    return Person(f"g:{key}", f"guest-{hashlib.sha256(key.encode()).hexdigest()[:8]}")


def ensure_guest_key(session: Any) -> None:
    """Store a guest key in the session, so that a guest stays the same on all pages."""
    if GUEST_KEY not in session:
        session[GUEST_KEY] = secrets.token_urlsafe(24)


def may_create(person: Person) -> bool:
    """Return whether this person may create a room (CHANNELBOX_ROOM_CREATION)."""
    return {"anyone": True, "users": not person.guest, "staff": person.staff}[settings.CHANNELBOX_ROOM_CREATION]


def open_to(person: Person) -> QuerySet[Room]:
    """Return the rooms that this person may enter."""
    rooms: QuerySet[Room] = Room.objects.filter(closed=False)
    if person.guest:
        return rooms.filter(members_only=False)
    memberships = Room.members.through.objects.filter(room=OuterRef("pk"), user=person.user_id)
    return rooms.filter(Q(members_only=False) | Q(Exists(memberships)))


def admit_new_room(person: Person, source: Source) -> None:
    """Count a room that this person is about to create. Raises Refused if they have created too many lately.

    `source`: the address and person for which it is counted. Call it on the event loop.
    """
    Admission.current().admit(_new_rooms(person), source)


def refund_new_room(person: Person, source: Source) -> None:
    """Undo `admit_new_room` for a room that was not created after all. Call it on the event loop."""
    Admission.current().refund(_new_rooms(person), source)


def _new_rooms(person: Person) -> Work:
    return Work.GUEST_ROOMS if person.guest else Work.ROOMS


async def enter(person: Person, name: str, creator: Source | None) -> Room:
    """Return the room of this name, looked up together with those that others enter at the same time.

    If there is none and this person may create it, it is created, and counted for `creator` if it really was new.
    Nobody else waits for that. With `creator` None it is not created. Raises Refused if the person may not enter the
    room, or if it does not exist or cannot be created.
    """
    found = await _look_up(person, name)
    if found is None and creator is not None and may_create(person):
        await _create_once(person, name, creator)
        found = await _look_up(person, name)
    if found is None:
        raise Refused(Code.NO_ROOM, f"Room {name} does not exist.", close=Close.NOT_ALLOWED)
    if isinstance(found, Refused):
        raise found
    return found


async def _create_once(person: Person, name: str, creator: Source) -> None:
    """Create a room, or wait until another task has: however many people enter it at once, it is counted once.

    Raises Refused if it cannot be created.
    """
    loop = asyncio.get_running_loop()
    creations: dict[str, asyncio.Future[bool]] = Bus.current().share(_create_once, dict)
    while (creation := creations.get(name)) is not None:
        completed = await asyncio.shield(creation)
        await JoinSteps.of(loop).turn()
        if completed:
            return
    admit_new_room(person, creator)
    creation = creations[name] = loop.create_future()
    try:
        made = await Bus.current().share(make, _creation_loader).get(name)
    except Exception as error:
        creation.set_exception(error)
        creation.exception()  # marks it as retrieved, in case nobody waits
        refund_new_room(person, creator)
        raise
    except BaseException:  # this client left; the room may be created all the same, and counts
        creation.set_result(False)  # the next client looks again
        raise
    else:
        creation.set_result(True)
        if not made:  # it existed by then, or a room of this name was deleted
            refund_new_room(person, creator)
    finally:
        del creations[name]


async def _look_up(person: Person, name: str) -> Room | Refused | None:
    return await Bus.current().share(look_up, _lookup_loader).get((person, name))


def look_up(asked: list[tuple[Person, str]]) -> dict[tuple[Person, str], Room | Refused]:
    """Return for each (person, name) the room, or the reason for refusing it. Rooms that do not exist are left out.

    Runs in a thread. It takes one query, and another if some of the rooms are for members only. It only reads, so it
    does not wait for writers.
    """
    rooms = {room.name: room for room in Room.objects.filter(name__in={name for _, name in asked})}
    private = [room.pk for room in rooms.values() if room.members_only]
    users = {person.user_id for person, _ in asked if person.user_id}
    members: set[tuple[int, int]] = set()
    if private and users:
        pairs = Room.members.through.objects.filter(room_id__in=private, user_id__in=users)
        members.update(pairs.values_list("room_id", "user_id"))
    return {(person, name): _admit(person, rooms[name], members) for person, name in asked if name in rooms}


def _admit(person: Person, room: Room, members: set[tuple[int, int]]) -> Room | Refused:
    if room.closed:
        return Refused(Code.NOT_ALLOWED, "This room is closed.", close=Close.NOT_ALLOWED)
    if room.members_only and (room.pk, person.user_id) not in members:
        return Refused(Code.NOT_ALLOWED, "This room is for its members only.", close=Close.NOT_ALLOWED)
    return room


def make(names: Collection[str], explicit: bool = False) -> set[str]:
    """Create rooms of these names where there are none. Return the names of those that are new. Runs in a thread.

    A name whose room was deleted or renamed is left out, unless the request is `explicit`: somebody asks for it by
    name. Raises Refused if others write to the database for longer than `CREATE_TIMEOUT_SECONDS`.
    """
    try:
        with atomic_within(CREATE_TIMEOUT_SECONDS):
            deleted = DeletedName.objects.filter(name__in=names)
            if explicit:
                deleted.delete()
            new = set(names).difference(deleted.values_list("name", flat=True))
            new.difference_update(Room.objects.filter(name__in=new).values_list("name", flat=True))
            Room.objects.bulk_create([Room(name=name) for name in sorted(new)], ignore_conflicts=True)
            return new
    except OperationalError as error:
        logger.warning("Rooms cannot be created at the moment: %s", error)
        raise Refused(
            Code.TRY_LATER,
            "The room cannot be created right now. Try again.",
            retry_after=RETRY_SECONDS,
            close=Close.TRY_LATER,
        ) from error


def _lookup_loader() -> BatchLoader[tuple[Person, str], Room | Refused]:
    return BatchLoader(database_sync_to_async(look_up, thread_sensitive=False))


def _creation_loader() -> BatchLoader[str, bool]:
    async def create_all(names: list[str]) -> dict[str, bool]:
        return dict.fromkeys(await database_sync_to_async(make, thread_sensitive=False)(names), True)

    return BatchLoader(create_all)
