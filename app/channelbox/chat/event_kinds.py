"""The kinds of events in a room. A kind is a word, what it carries, and who may store it; numbers are the same for all.

A new kind is added here, in `sender_permissions` when not everybody may store it, and where it changes earlier events
(as `removal` does). Tables, queue, hub and catch-up take it as it is: docs/decisions/events.md.
"""

import enum
from typing import Any


class Kind(enum.StrEnum):
    """What clients see as an event's `type`."""

    MESSAGE = "message"
    ANNOUNCEMENT = "announcement"  # by staff, to everybody in the room
    DELETION = "deletion"  # takes the text of an earlier event away; `removes` is its number


SPOKEN = (Kind.MESSAGE, Kind.ANNOUNCEMENT)  # have a text: what history shows, and what can be removed
FOR_STAFF = (Kind.ANNOUNCEMENT,)


def understood(kind: str, data: dict[str, Any] | None) -> Kind:
    """The kind, when this version can store it with this data. Raises ValueError: a newer worker must take it."""
    found = Kind(kind)
    if found is Kind.DELETION and not isinstance((data or {}).get("removes"), int):
        raise ValueError("a deletion that removes nothing")
    return found
