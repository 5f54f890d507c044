"""Reading the record: what the hub asks for."""

from channels.db import database_sync_to_async

from channelbox.chat import events
from channelbox.chat.kinds import Kind
from channelbox.chat.models import Event, Room
from channelbox.realtime.record import Identity, Observed, Opened
from channelbox.realtime.room import Run, gone

OPEN_MOST = 200  # events that a room is opened with, so that most newcomers find their history in memory


def _open(name: str) -> Opened:
    room = Room.objects.filter(name=name).first()
    if room is None:
        return Opened(Identity(0, ""), 1, Run(1, 0, b""))
    newest = Event.objects.filter(room=room, seq__lte=room.last_seq, seq__gte=room.floor).order_by("-seq")
    run = events.newest(list(newest[:OPEN_MOST]), room.last_seq)
    return Opened(Identity(room.pk, room.full_epoch), room.floor, run)


def _after(name: str, identity: Identity, seq: int, most: int) -> Run:
    # The newest number first: an event up to it that the next query does not find is gone.
    room = Room.objects.filter(name=name).only("last_seq", "floor", "epoch").first()
    if room is None or identity != (room.pk, room.full_epoch):
        raise LookupError("it was removed, made anew or restored")
    if seq >= room.last_seq:
        return Run(seq + 1, seq, b"")
    found = list(
        Event.objects.filter(room=room, seq__gt=max(seq, room.floor - 1), seq__lte=room.last_seq).order_by("seq")[:most]
    )
    next_seq = found[0].seq if found else room.last_seq + 1
    if next_seq > seq + 1:
        return gone(seq + 1, next_seq - 1)
    targets = [event.data["removes"] for event in found if event.kind == Kind.DELETION and event.data]
    # Also those that are read here: who asks may have them already by the time that this is there.
    changed = Event.objects.filter(room=room, seq__in=targets) if targets else []
    return events.run(found, seq)._replace(replaced=events.replaced(changed))


def _observe(names: list[str]) -> dict[str, Observed]:
    rooms = Room.objects.filter(name__in=names).only("name", "last_seq", "epoch", "floor")
    return {room.name: Observed(Identity(room.pk, room.full_epoch), room.floor, room.last_seq) for room in rooms}


class History:
    """The database as the hub's store. In threads of their own: the event loop's one shared thread is not held up."""

    open = staticmethod(database_sync_to_async(_open, thread_sensitive=False))
    after = staticmethod(database_sync_to_async(_after, thread_sensitive=False))
    observe = staticmethod(database_sync_to_async(_observe, thread_sensitive=False))
