"""Reading the record: what the hub asks for."""

from channels.db import database_sync_to_async

from channelbox.chat import events
from channelbox.chat.kinds import Kind
from channelbox.chat.models import Event, Room
from channelbox.realtime.hub import Run

OPEN_MOST = 200  # events that a room is opened with, so that most who come find their history in memory


def _open(name: str) -> tuple[int, Run]:
    room = Room.objects.only("id", "last_seq").filter(name=name).first()
    if room is None:
        return 0, Run(1, 0, b"")
    newest = list(Event.objects.filter(room=room, seq__lte=room.last_seq).order_by("-seq")[:OPEN_MOST])[::-1]
    found = events.run(newest, newest[0].seq - 1) if newest else None
    if found is None or found.last != room.last_seq:
        return room.pk, Run(room.last_seq + 1, room.last_seq, b"")
    return room.pk, found


def _after(name: str, seq: int, most: int) -> Run:
    found = list(Event.objects.filter(room__name=name, seq__gt=seq).order_by("seq")[:most])
    targets = [event.data["removes"] for event in found if event.kind == Kind.DELETION and event.data]
    # Also those that are read here: who asks may have them already by the time that this is there.
    changed = Event.objects.filter(room__name=name, seq__in=targets) if targets else []
    return events.run(found, seq)._replace(replaced=events.replaced(changed))


def _newest(names: list[str]) -> dict[str, int]:
    return dict(Room.objects.filter(name__in=names).values_list("name", "last_seq"))


class History:
    """The database as the hub's store. In threads of their own: the event loop's one shared thread is not held up."""

    open = staticmethod(database_sync_to_async(_open, thread_sensitive=False))
    after = staticmethod(database_sync_to_async(_after, thread_sensitive=False))
    newest = staticmethod(database_sync_to_async(_newest, thread_sensitive=False))
