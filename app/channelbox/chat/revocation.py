"""Ends connections to rooms that were closed, renamed or deleted, or that the person may no longer enter."""

from typing import Any

from django.db.models.signals import m2m_changed, post_save
from django.dispatch import receiver

from channelbox.accounts.models import User
from channelbox.accounts.revocation import SocketGrant, notify_after_commit
from channelbox.chat.models import Room, rooms_deleted
from channelbox.realtime.errors import Close, Code, Refused


def rooms(grants: list[SocketGrant]) -> dict[SocketGrant, Refused]:
    """Return the grants that have to end, each with its reason. A rule of `accounts.revocation`; runs in a thread."""
    found = Room.objects.in_bulk({grant.room[0] for grant in grants if grant.room})
    private = [room.pk for room in found.values() if room.members_only]
    users = {grant.user for grant in grants if grant.user}
    members = set(
        Room.members.through.objects.filter(room_id__in=private, user_id__in=users).values_list("room_id", "user_id")
    )
    ended = {}
    for grant in grants:
        if not grant.room:
            continue
        key, name, epoch = grant.room
        room = found.get(key)
        if room is None:
            ended[grant] = Refused(Code.NO_ROOM, "This room was deleted.", close=Close.NOT_ALLOWED)
        elif room.name != name:
            ended[grant] = Refused(Code.NO_ROOM, "This room was renamed.", close=Close.NOT_ALLOWED)
        elif room.full_epoch != epoch:
            sentence = "This room was restored from a backup. Reconnecting."
            ended[grant] = Refused(Code.TRY_LATER, sentence, close=Close.RESTART)
        elif room.closed:
            ended[grant] = Refused(Code.NOT_ALLOWED, "This room is closed.", close=Close.NOT_ALLOWED)
        elif room.members_only and (room.pk, grant.user) not in members:
            ended[grant] = Refused(Code.NOT_ALLOWED, "This room is for its members only.", close=Close.NOT_ALLOWED)
    return ended


@receiver(post_save, sender=Room)
def changed(instance: Room, created: bool, **kwargs: Any) -> None:
    """Have the connections of a changed room checked. Storing messages updates rooms in bulk, without this signal."""
    if not created:
        notify_after_commit("room", instance.pk)


@receiver(rooms_deleted)
def deleted(keys: list[int], **kwargs: Any) -> None:
    """Have the connections of deleted rooms checked, each room by its key: a process has connections to few of them."""
    notify_after_commit("room", *keys)


@receiver(m2m_changed, sender=Room.members.through)
def members_changed(instance: Room | User, action: str, reverse: bool, **kwargs: Any) -> None:
    """Have connections checked when memberships change, from either side: members of a room, or rooms of a user."""
    if action.startswith("post_"):
        notify_after_commit("user" if reverse else "room", instance.pk)
