"""Permissions of senders when their messages are stored: read once per batch, within the storing transaction.

A connection was admitted earlier, and its messages may have waited. Nothing more is stored for users who meanwhile were
deactivated, removed from the room or removed from the staff.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from channelbox.chat.event_kinds import FOR_STAFF
from channelbox.chat.models import Room
from channelbox.realtime.envelope import IncomingEvent
from channelbox.realtime.errors import Code

Refusal = tuple[Code, str]

SIGNED_OUT: Refusal = (Code.SIGN_IN, "You are signed out. Sign in again.")
CLOSED: Refusal = (Code.NOT_ALLOWED, "This room is closed.")
MEMBERS: Refusal = (Code.NOT_ALLOWED, "This room is for its members only.")
STAFF: Refusal = (Code.NOT_ALLOWED, "Only administrators may do this.")


@dataclass(slots=True)
class SenderPermissions:
    """The senders of a batch as they are in the database."""

    active: set[int] = field(default_factory=set)
    staff: set[int] = field(default_factory=set)
    members: set[tuple[int, int]] = field(default_factory=set)  # (room, user), for rooms that are for members only

    @classmethod
    def of(cls, active: dict[int, bool], rooms: Iterable[Room]) -> Self:
        """Return the permissions of these senders in these rooms.

        `active`: users who may still sign in, and whether each is on the staff. This takes one query if there are rooms
        for members only, and none otherwise.
        """
        permissions = cls(set(active), {user for user, staff in active.items() if staff})
        private = [room.pk for room in rooms if room.members_only]
        if private and active:
            through = Room.members.through.objects.filter(room_id__in=private, user_id__in=active)
            permissions.members = set(through.values_list("room_id", "user_id"))
        return permissions

    def refusal(self, room: Room, incoming: IncomingEvent) -> Refusal | None:
        """Return why this event is not stored, or None if it may be."""
        user = incoming.user_id
        if user is not None and user not in self.active:
            return SIGNED_OUT
        if room.closed:
            return CLOSED
        if room.members_only and (user is None or (room.pk, user) not in self.members):
            return MEMBERS
        if incoming.kind in FOR_STAFF and not self.is_staff(incoming):
            return STAFF
        return None

    def is_staff(self, incoming: IncomingEvent) -> bool:
        return incoming.user_id in self.staff
