"""What processes send each other about a room: batches to the workers, envelopes to the members. One schema, by names.

Both are msgpack maps with a version. A reader ignores fields that it does not know and has defaults for those that it
does not find, so that adjacent versions of the package understand each other; a change that needs more than that raises
`VERSION`, and a reader refuses what is newer than itself (ValueError).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import msgpack

VERSION = 1
# What Python takes for an envelope without frames and names, and for each of those besides its text
ENVELOPE_BYTES, FRAME_BYTES, NAME_BYTES = 384, 192, 64


class RoomRef(NamedTuple):
    """A room as queue entries name it. The key tells it from other rooms that have or had the same name.

    `epoch`: what the numbers of its events were numbers of when the messages were sent; "" says nothing of that.
    """

    key: int
    name: str
    epoch: str = ""


class BatchRef(NamedTuple):
    """A batch of one process's outbox. Its messages and their order never change, however often it is sent."""

    process: str
    number: int


@dataclass(frozen=True, slots=True)
class Batch:
    """An entry of the queue: one room's messages from one outbox.

    `messages`: each a map of an event's fields (`chat.incoming.IncomingEvent`). They differ by (sender, id), so the
    position of a message in its batch stands for that pair in the outcome.
    """

    ref: BatchRef
    room: RoomRef
    messages: Sequence[Mapping[str, Any]]

    def entry(self, type: str) -> dict[str, object]:
        """Return what goes into the queue. `type`: as Channels' messages have it."""
        return {
            "type": type,
            "v": VERSION,
            "process": self.ref.process,
            "batch": self.ref.number,
            "key": self.room.key,
            "room": self.room.name,
            "epoch": self.room.epoch,
            "messages": self.messages,
        }

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Return the batch of a queue entry. Raises ValueError for what is none, and for a later version's."""
        try:
            _check_version(entry)
            ref = BatchRef(_is(str, entry["process"]), _is(int, entry["batch"]))
            room = RoomRef(_is(int, entry["key"]), _is(str, entry["room"]), _is(str, entry.get("epoch", "")))
            return cls(ref, room, [_is(dict, message) for message in entry["messages"]])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a batch: {error!r}") from error


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What became of every message of a batch, by position. Each batch gets one.

    `numbers`: the number under which each is stored, 0 for those that are refused. `known`: the positions of those that
    were stored before this run. `refused`: position to code and sentence.
    """

    ref: BatchRef
    numbers: Sequence[int]
    known: frozenset[int] = frozenset()
    refused: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    def _map(self) -> dict[str, object]:
        packed: dict[str, object] = {
            "process": self.ref.process,
            "batch": self.ref.number,
            "numbers": list(self.numbers),
        }
        if self.known:
            packed["known"] = sorted(self.known)
        if self.refused:
            packed["refused"] = [(position, *reason) for position, reason in self.refused.items()]
        return packed

    @classmethod
    def _of(cls, packed: Mapping[str, Any]) -> Self:
        return cls(
            BatchRef(_is(str, packed["process"]), _is(int, packed["batch"])),
            [_is(int, number) for number in packed["numbers"]],
            frozenset(packed.get("known", ())),
            {position: (code, sentence) for position, code, sentence, *_ in packed.get("refused", ())},
        )


@dataclass(frozen=True, slots=True)
class Envelope:
    """One publish to a room.

    With `first` > 0: the finished frames of the events `first` .. `last`. With `first` 0: frames without a number
    (typing), or none; `last` > 0 then says that the room is known to have reached this number. `key`: the room's; 0:
    whichever has the name. `outcomes`: of the batches that were stored or refused with this. `presence`: one process's
    part of the people in the room, as (process, names or None, count). `replaced`: number and frame of earlier events
    that these events have changed, as they are from now on. `epoch`: what the numbers are of; "" says nothing of that.
    """

    first: int = 0
    last: int = 0
    frames: bytes = b""
    key: int = 0
    outcomes: Sequence[BatchOutcome] = ()
    presence: tuple[str, list[str] | None, int] | None = None
    replaced: Sequence[tuple[int, bytes]] = ()
    epoch: str = ""

    @property
    def memory(self) -> int:
        """About how many bytes this takes, but for its outcomes."""
        names = (self.presence[1] if self.presence is not None else None) or ()
        return (
            ENVELOPE_BYTES
            + len(self.frames)
            + sum(FRAME_BYTES + len(frame) for _, frame in self.replaced)
            + sum(NAME_BYTES + 4 * len(name) for name in names)
        )

    def pack(self) -> bytes:
        packed: dict[str, object] = {"v": VERSION, "first": self.first, "last": self.last, "frames": self.frames}
        if self.key:
            packed["key"] = self.key
        if self.epoch:
            packed["epoch"] = self.epoch
        if self.outcomes:
            packed["outcomes"] = [outcome._map() for outcome in self.outcomes]
        if self.presence is not None:
            packed["presence"] = self.presence
        if self.replaced:
            packed["replaced"] = self.replaced
        return msgpack.packb(packed)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Return the envelope of a payload. Raises ValueError for what is none, and for a later version's."""
        try:
            packed = msgpack.unpackb(payload)
            _check_version(packed)
            presence = packed.get("presence")
            if presence is not None:
                process, names, count, *_ = presence
                presence = _is(str, process), names, _is(int, count)
            return cls(
                _is(int, packed.get("first", 0)),
                _is(int, packed.get("last", 0)),
                _is(bytes, packed.get("frames", b"")),
                _is(int, packed.get("key", 0)),
                [BatchOutcome._of(outcome) for outcome in packed.get("outcomes", ())],
                presence,
                [(_is(int, seq), _is(bytes, frame)) for seq, frame, *_ in packed.get("replaced", ())],
                _is(str, packed.get("epoch", "")),
            )
        except (KeyError, TypeError, AttributeError, msgpack.exceptions.UnpackException) as error:
            raise ValueError(f"not an envelope: {error!r}") from error


def _check_version(packed: Mapping[str, Any]) -> None:
    version = packed.get("v")
    if not isinstance(version, int) or not 0 < version <= VERSION:
        raise ValueError(f"of version {version!r}; this process reads {VERSION}")


def _is(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.100} is not {kind.__name__}")
    return value
