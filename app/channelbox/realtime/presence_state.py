"""The people of one room, as parts: one for each process that has people in it."""

import collections
from typing import Any, NamedTuple

import msgpack

MAX_NAMES = 100  # beyond it, only a count: a list of thousands helps nobody, and is sent to each of them

Part = tuple[list[str] | None, int]  # the names, None if they are too many; their number
EMPTY_PART: Part = ([], 0)


class OtherPart(NamedTuple):
    """Another process's part of a room."""

    part: Part
    heard_at: float  # on the event loop's clock; -inf if read from Redis


class People:
    """People of a room: connections by name in this process, and the parts of other processes."""

    def __init__(self) -> None:
        self.names: collections.Counter[str] = collections.Counter()
        self.others: dict[str, OtherPart] = {}
        self.frame: bytes | None = None
        self.written = False  # this process's part was written to Redis and not removed since
        self.incomplete_until = 0.0  # until when Redis may lack parts that it lost; on the event loop's clock

    def part(self) -> Part:
        """Return this process's part."""
        return (sorted(self.names) if len(self.names) <= MAX_NAMES else None), len(self.names)

    def all(self) -> Part:
        """Return the parts of all processes as one."""
        parts = [self.part(), *(other.part for other in self.others.values())]
        if all(names is not None for names, _ in parts):
            together = sorted({name for names, _ in parts for name in names or ()})
            return (together if len(together) <= MAX_NAMES else None), len(together)
        return None, sum(count for _, count in parts)


def checked(names: Any, count: Any) -> Part:
    """Return these values as a part. Raises ValueError if they are malformed."""
    named = names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))
    if not named or type(count) is not int or count < 0:
        raise ValueError("This is no part of a room's people.")
    return names, count


def unpack(packed: bytes) -> Part | None:
    """Return a stored part, or None if it is malformed."""
    try:
        names, count = msgpack.unpackb(packed)
        return checked(names, count)
    except (ValueError, TypeError):
        return None
