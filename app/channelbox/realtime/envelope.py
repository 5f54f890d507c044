"""The schema of what processes send each other about a room: batches to the workers, envelopes to the web processes.

Both are msgpack maps with named fields and a version. A reader ignores unknown fields and has defaults for missing
ones, so that adjacent versions of the package understand each other. A change that needs more than that raises
`VERSION`; a reader refuses a version newer than its own (ValueError).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

import msgpack

VERSION = 1
# Memory that Python needs for an envelope without frames and names, and for each frame and name besides its content
ENVELOPE_BYTES, FRAME_BYTES, NAME_BYTES = 384, 192, 64


EventKey = tuple[str, str]  # sender, the sender's id


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """An event from the moment its sender has sent it until it is stored. Then it gets its number and time.

    `sender`: the key of the person. `user_id`: None for guests. `name`: the sender's name then. `id`: the sender's own.
    `kind`: one of `chat.event_kinds.Kind`, or one that only a later version has. `data`: further fields of the kind.
    """

    sender: str
    user_id: int | None
    name: str
    id: str
    kind: str
    text: str
    data: dict[str, Any] | None = None

    @property
    def key(self) -> EventKey:
        return self.sender, self.id

    def pack(self) -> dict[str, object]:
        packed: dict[str, object] = {
            "sender": self.sender,
            "user_id": self.user_id,
            "name": self.name,
            "id": self.id,
            "kind": self.kind,
            "text": self.text,
        }
        return packed if self.data is None else {**packed, "data": self.data}

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Self:
        """Return the event with these fields. Raises TypeError if one is missing or of another type."""
        event = cls(**{name: value for name, value in packed.items() if name in _EVENT_FIELDS})
        texts = (event.sender, event.name, event.id, event.kind, event.text)
        if (
            not all(isinstance(text, str) for text in texts)
            or not isinstance(event.user_id, int | None)
            or not isinstance(event.data, dict | None)
        ):
            raise TypeError(f"not what an event is made of: {packed!r:.200}")
        return event


_EVENT_FIELDS = frozenset(each.name for each in fields(IncomingEvent))


class RoomRef(NamedTuple):
    """A room as queue entries refer to it. The key tells it apart from other rooms that have or had the same name.

    `epoch`: the epoch of the room's event numbers when the messages were sent; "" if it is not given.
    """

    key: int
    name: str
    epoch: str = ""


class BatchRef(NamedTuple):
    """The identity of a batch in one process's outbox. Its messages and their order stay the same on every resend."""

    process: str
    number: int


@dataclass(frozen=True, slots=True)
class Batch:
    """A queue entry: events of one room from one outbox.

    Each (sender, id) occurs once, so the outcome refers to an event by its position in the batch.
    """

    ref: BatchRef
    room: RoomRef
    events: Sequence[IncomingEvent]

    def entry(self, type: str) -> dict[str, object]:
        """Return the queue entry as a map. `type`: the message type of Channels."""
        return {
            "type": type,
            "v": VERSION,
            "process": self.ref.process,
            "batch": self.ref.number,
            "key": self.room.key,
            "room": self.room.name,
            "epoch": self.room.epoch,
            "messages": [event.pack() for event in self.events],
        }

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Return the batch in a queue entry. Raises ValueError if it is not a batch or is of a later version."""
        try:
            _check_version(entry)
            ref = BatchRef(_checked(str, entry["process"]), _checked(int, entry["batch"]))
            room = RoomRef(
                _checked(int, entry["key"]), _checked(str, entry["room"]), _checked(str, entry.get("epoch", ""))
            )
            return cls(ref, room, [IncomingEvent.unpack(_checked(dict, event)) for event in entry["messages"]])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a batch: {error!r}") from error


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """The outcome of every message of a batch, by position. Each batch gets one outcome.

    `numbers`: the number under which each message is stored, 0 if it was refused. `known`: the positions of messages
    that had already been stored before this run. `refused`: maps a position to the error code and sentence.
    """

    ref: BatchRef
    numbers: Sequence[int]
    known: frozenset[int] = frozenset()
    refused: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    def _pack(self) -> dict[str, object]:
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
    def _unpack(cls, packed: Mapping[str, Any]) -> Self:
        return cls(
            BatchRef(_checked(str, packed["process"]), _checked(int, packed["batch"])),
            [_checked(int, number) for number in packed["numbers"]],
            frozenset(packed.get("known", ())),
            {position: (code, sentence) for position, code, sentence, *_ in packed.get("refused", ())},
        )


@dataclass(frozen=True, slots=True)
class Envelope:
    """One pub/sub message to a room.

    With `first` > 0, `frames` are the encoded frames of the events `first` to `last`. With `first` = 0, they are frames
    without a number (typing) or empty; `last` > 0 then says that the room has reached this number.

    `key`: the room's key; 0 means whichever room has the name. `epoch`: the epoch of the numbers; "" if not given.
    `outcomes`: those of the batches whose messages were stored or refused. `presence`: one process's part of the people
    in the room, as (process, names or None, count). `replaced`: number and new frame of each earlier event that these
    events have changed.
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
        """Return about how many bytes of memory the envelope takes, without its outcomes."""
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
            packed["outcomes"] = [outcome._pack() for outcome in self.outcomes]
        if self.presence is not None:
            packed["presence"] = self.presence
        if self.replaced:
            packed["replaced"] = self.replaced
        data: bytes = msgpack.packb(packed)
        return data

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Return the envelope in a payload. Raises ValueError if it is not an envelope or is of a later version."""
        try:
            packed = msgpack.unpackb(payload)
            _check_version(packed)
            presence = packed.get("presence")
            if presence is not None:
                process, names, count, *_ = presence
                presence = _checked(str, process), names, _checked(int, count)
            return cls(
                _checked(int, packed.get("first", 0)),
                _checked(int, packed.get("last", 0)),
                _checked(bytes, packed.get("frames", b"")),
                _checked(int, packed.get("key", 0)),
                [BatchOutcome._unpack(outcome) for outcome in packed.get("outcomes", ())],
                presence,
                [(_checked(int, seq), _checked(bytes, frame)) for seq, frame, *_ in packed.get("replaced", ())],
                _checked(str, packed.get("epoch", "")),
            )
        except (KeyError, TypeError, AttributeError, msgpack.exceptions.UnpackException) as error:
            raise ValueError(f"not an envelope: {error!r}") from error


def _check_version(packed: Mapping[str, Any]) -> None:
    version = packed.get("v")
    if not isinstance(version, int) or not 0 < version <= VERSION:
        raise ValueError(f"of version {version!r}; this process reads {VERSION}")


def _checked(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.100} is not {kind.__name__}")
    return value
