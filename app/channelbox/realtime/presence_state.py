"""The people of one room, as parts: one for each process that has any."""

import collections
from typing import Any, NamedTuple

import msgpack

MAX_NAMED = 100  # above, only a count: a list of thousands helps nobody and costs each of them

Part = tuple[list[str] | None, int]  # names, unless there are too many; how many
EMPTY_PART: Part = ([], 0)


class OtherPart(NamedTuple):
    """Another process's part of a room."""

    part: Part
    heard: float  # on the loop's clock; long ago when it was read from Redis


class People:
    """The people of a room: those of this process by name and connections, and the other processes' parts."""

    def __init__(self) -> None:
        self.names: collections.Counter[str] = collections.Counter()
        self.others: dict[str, OtherPart] = {}
        self.frame: bytes | None = None
        self.written = False  # this process's part has been in Redis, and was not taken out
        self.incomplete_until = 0.0  # Redis has lost parts; on the loop's clock

    def part(self) -> Part:
        """Return this process's part."""
        return (sorted(self.names) if len(self.names) <= MAX_NAMED else None), len(self.names)

    def all(self) -> Part:
        """Return all parts together."""
        parts = [self.part(), *(other.part for other in self.others.values())]
        if all(names is not None for names, _ in parts):
            together = sorted({name for names, _ in parts for name in names or ()})
            return (together if len(together) <= MAX_NAMED else None), len(together)
        return None, sum(count for _, count in parts)


def checked(names: Any, count: Any) -> Part:
    """Return a part of well-formed values. Raises ValueError for others."""
    named = names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))
    if not named or type(count) is not int or count < 0:
        raise ValueError("This is no part of a room's people.")
    return names, count


def unpack(packed: bytes) -> Part | None:
    """Return a stored part, None for what is none."""
    try:
        names, count = msgpack.unpackb(packed)
        return checked(names, count)
    except (ValueError, TypeError):
        return None
