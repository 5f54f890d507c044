"""What senders may do when their messages are stored: looked up once for a batch, inside the storing transaction.

A socket was let in earlier, and what it sent may have waited: who was deactivated, removed from a room or taken off the
staff meanwhile stores nothing more.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from channelbox.chat.event_kinds import FOR_STAFF
from channelbox.chat.incoming import IncomingEvent
from channelbox.chat.models import Room
from channelbox.realtime.errors import Code

Refusal = tuple[Code, str]

SIGNED_OUT: Refusal = (Code.SIGN_IN, "You are signed out. Sign in again.")
CLOSED: Refusal = (Code.NOT_ALLOWED, "This room is closed.")
MEMBERS: Refusal = (Code.NOT_ALLOWED, "This room is for its members only.")
STAFF: Refusal = (Code.NOT_ALLOWED, "Only administrators may do this.")


@dataclass(slots=True)
class SenderPermissions:
    """The senders of a batch as the record has them."""

    active: set[int] = field(default_factory=set)
    staff: set[int] = field(default_factory=set)
    members: set[tuple[int, int]] = field(default_factory=set)  # room, user; of rooms for members only

    @classmethod
    def of(cls, active: dict[int, bool], rooms: Iterable[Room]) -> Self:
        """`active`: whether each is on the staff. One query where there are rooms for members only, none elsewhere."""
        permissions = cls(set(active), {user for user, staff in active.items() if staff})
        private = [room.pk for room in rooms if room.members_only]
        if private and active:
            through = Room.members.through.objects.filter(room_id__in=private, user_id__in=active)
            permissions.members = set(through.values_list("room_id", "user_id"))
        return permissions

    def refusal(self, room: Room, draft: IncomingEvent) -> Refusal | None:
        """Why this is not stored, or None."""
        user = draft.user_id
        if user is not None and user not in self.active:
            return SIGNED_OUT
        if room.closed:
            return CLOSED
        if room.members_only and (user is None or (room.pk, user) not in self.members):
            return MEMBERS
        if draft.kind in FOR_STAFF and not self.is_staff(draft):
            return STAFF
        return None

    def is_staff(self, draft: IncomingEvent) -> bool:
        return draft.user_id in self.staff
