"""Events as clients see them."""

import datetime
from collections.abc import Iterable

from channelbox.chat.event_kinds import SPOKEN
from channelbox.chat.models import Event
from channelbox.realtime.frames import json_frame
from channelbox.realtime.hub_room import Run


def timestamp(at: datetime.datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def content(event: Event) -> dict[str, object]:
    """Return the JSON of an event: `type` is its kind, `seq` its number in the room. Its `data` are further fields."""
    return {
        "type": event.kind,
        "seq": event.seq,
        "id": event.client_id,
        "user": event.name,
        **({"message": event.text} if event.text or event.kind in SPOKEN else {}),
        "at": timestamp(event.at),
        **(event.data or {}),
    }


def frame(event: Event) -> bytes:
    return json_frame(content(event))


def run(events: Iterable[Event], seq: int) -> Run:
    """Return the frames of the events that follow `seq`, up to the first hole. An empty run ends at `seq`."""
    frames = []
    last = seq
    for event in events:
        if event.seq != last + 1:
            break
        frames.append(frame(event))
        last = event.seq
    return Run(seq + 1, last, b"".join(frames))


def newest(events: list[Event], last: int) -> Run:
    """Return the run that ends at number `last`; empty if that one is missing. `events`: in descending order."""
    count = 0
    while count < len(events) and events[count].seq == last - count:
        count += 1
    return run(reversed(events[:count]), last - count)


def replaced(events: Iterable[Event]) -> tuple[tuple[int, bytes], ...]:
    """Return the numbers and new frames of changed events, for the replay buffers that keep the old frames."""
    return tuple((event.seq, frame(event)) for event in events)
