"""The kinds of events in a room. A kind has a name, data, and rules for who may store it; all share one numbering.

A new kind is added here, in `sender_permissions` if not everybody may store it, and where it changes earlier events (as
`deletion` does). Tables, queue, hub and catch-up need no change for it: docs/decisions/events.md.
"""

import enum
from typing import Any


class Kind(enum.StrEnum):
    """The `type` of an event as clients see it."""

    MESSAGE = "message"
    ANNOUNCEMENT = "announcement"  # by staff, to everybody in the room
    DELETION = "deletion"  # removes the text of an earlier event; `removes` is its number


SPOKEN = (Kind.MESSAGE, Kind.ANNOUNCEMENT)  # have a text: history shows them, and they can be deleted
FOR_STAFF = (Kind.ANNOUNCEMENT,)


def parse_kind(kind: str, data: dict[str, Any] | None) -> Kind:
    """Return the kind.

    Raises ValueError if this version cannot store it with this data: a newer worker has to take it.
    """
    found = Kind(kind)
    if found is Kind.DELETION and not isinstance((data or {}).get("removes"), int):
        raise ValueError("a deletion that removes nothing")
    return found
