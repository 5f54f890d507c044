"""An event as clients see it."""

import datetime
from collections.abc import Iterable

from channelbox.chat.event_kinds import SPOKEN
from channelbox.chat.models import Event
from channelbox.realtime.frames import json_frame
from channelbox.realtime.hub_room import Run


def moment(at: datetime.datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def content(event: Event) -> dict[str, object]:
    """The JSON of one event: `type` is its kind, `seq` its number in the room. A kind's own fields are its `data`."""
    return {
        "type": event.kind,
        "seq": event.seq,
        "id": event.client_id,
        "user": event.name,
        **({"message": event.text} if event.text or event.kind in SPOKEN else {}),
        "at": moment(event.at),
        **(event.data or {}),
    }


def frame(event: Event) -> bytes:
    return json_frame(content(event))


def run(events: Iterable[Event], seq: int) -> Run:
    """The finished frames of events that follow `seq` one by one; stops at a hole. Empty: it ends at `seq`."""
    frames = []
    last = seq
    for event in events:
        if event.seq != last + 1:
            break
        frames.append(frame(event))
        last = event.seq
    return Run(seq + 1, last, b"".join(frames))


def newest(events: list[Event], last: int) -> Run:
    """Return the run that ends at number `last`, of events in falling order; empty where that one is missing."""
    count = 0
    while count < len(events) and events[count].seq == last - count:
        count += 1
    return run(reversed(events[:count]), last - count)


def replaced(events: Iterable[Event]) -> tuple[tuple[int, bytes], ...]:
    """What earlier events have become, for those who keep their frames."""
    return tuple((event.seq, frame(event)) for event in events)
