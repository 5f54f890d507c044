"""An event as clients see it."""

from collections.abc import Iterable

from channelbox.chat.models import Event
from channelbox.realtime.frames import json_frame
from channelbox.realtime.hub import Run


def content(event: Event) -> dict[str, object]:
    """The JSON of one event: `type` is its kind, `seq` its number in the room."""
    return {
        "type": event.kind,
        "seq": event.seq,
        "id": event.client_id,
        "user": event.name,
        "message": event.text,
        "at": event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **(event.data or {}),
    }


def run(events: Iterable[Event], seq: int) -> Run:
    """The finished frames of events that follow `seq` one by one; stops at a hole. Empty: it ends at `seq`."""
    frames = []
    last = seq
    for event in events:
        if event.seq != last + 1:
            break
        frames.append(json_frame(content(event)))
        last = event.seq
    return Run(seq + 1, last, b"".join(frames))
