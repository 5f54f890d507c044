"""What travels on a room's pub/sub channel, and on the channel of a process's own answers."""

from collections.abc import Sequence
from typing import NamedTuple

import msgpack


class Origin(NamedTuple):
    """A batch of a process's outbox that ended in this run, but for the ids that are answered elsewhere."""

    process: str
    batch: int
    elsewhere: list[str]


class Envelope(NamedTuple):
    """One publish to a room.

    With `first` > 0: the finished frames of the events `first` .. `last`. With `first` 0: frames without a number
    (typing), or none; `last` > 0 then says that the room is known to have reached this number. `presence` is one
    process's part of who is here: (process, names or None, how many). `replaced`: the frames of earlier events that
    these events have changed, as they are from now on.
    """

    first: int
    last: int
    origins: list[Origin]
    frames: bytes
    presence: tuple[str, list[str] | None, int] | None = None
    replaced: Sequence[tuple[int, bytes]] = ()  # seq, frame

    def pack(self) -> bytes:
        return msgpack.packb(tuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> "Envelope":
        """Raises ValueError for what is no envelope."""
        first, last, origins, frames, presence, *more = msgpack.unpackb(payload)
        replaced = [(seq, frame) for seq, frame in more[0]] if more else ()
        return cls(first, last, [Origin(*origin) for origin in origins], frames, presence, replaced)


class Answer(NamedTuple):
    """To one process's outbox: what became of some messages of a batch, by the sender's key and the message's id."""

    room: str
    batch: int
    stored: Sequence[tuple[str, str, int]]  # sender, id, seq
    refused: Sequence[tuple[str, str, str, str]]  # sender, id, code, sentence

    def pack(self) -> bytes:
        return msgpack.packb(tuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> "Answer":
        """Raises ValueError for what is no answer."""
        room, batch, stored, refused, *_ = msgpack.unpackb(payload)
        return cls(room, batch, [tuple(item) for item in stored], [tuple(item) for item in refused])
