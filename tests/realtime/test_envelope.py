"""The message schema between processes: named fields, a version, and no error but ValueError for invalid data."""

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelbox.realtime.envelope import VERSION, Batch, BatchOutcome, BatchRef, Envelope, IncomingEvent, RoomRef

OUTCOME = BatchOutcome(BatchRef("web", 7), [18, 3, 0], frozenset({1}), {2: ("not_allowed", "No.")})
FULL = Envelope(17, 18, b"frames", 5, [OUTCOME], ("web", ["alice"], 1), [(3, b"frame")], "epoch")
EVENTS = [
    IncomingEvent("u:1", 1, "alice", "a", "message", "hi"),
    IncomingEvent("g:bob", None, "bob", "b", "deletion", "", {"removes": 3}),
]
BATCH = Batch(BatchRef("web", 7), RoomRef(5, "lobby", "epoch"), EVENTS)

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize("envelope", [FULL, Envelope(), Envelope(last=9, key=5), Envelope(frames=b"typing")])
def test_an_envelope_survives_packing_and_unpacking(envelope: Envelope) -> None:
    unpacked = Envelope.unpack(envelope.pack())
    assert unpacked.pack() == envelope.pack()
    assert list(unpacked.outcomes) == list(envelope.outcomes)
    assert unpacked.epoch == envelope.epoch


def test_a_batch_survives_packing_and_unpacking() -> None:
    entry = msgpack.unpackb(msgpack.packb(BATCH.entry("chat.ingest")))
    assert entry["type"] == "chat.ingest"
    assert Batch.of(entry) == BATCH


def test_unknown_fields_are_ignored() -> None:
    packed = msgpack.unpackb(FULL.pack())
    packed["added"] = 1
    packed["outcomes"][0]["added"] = 1
    packed["outcomes"][0]["refused"][0].append("added")
    packed["replaced"][0].append("added")
    packed["presence"].append("added")
    assert Envelope.unpack(msgpack.packb(packed)).pack() == FULL.pack()
    assert Batch.of({**BATCH.entry("chat.ingest"), "added": 1}) == BATCH


@pytest.mark.parametrize("version", [0, VERSION + 1, None, "1"])
def test_other_schema_versions_are_rejected(version: object) -> None:
    with pytest.raises(ValueError, match="version"):
        Envelope.unpack(msgpack.packb({**msgpack.unpackb(FULL.pack()), "v": version}))
    with pytest.raises(ValueError, match="version"):
        Batch.of({**BATCH.entry("chat.ingest"), "v": version})


@given(st.binary(max_size=200))
def test_unpacking_arbitrary_bytes_raises_only_value_error(payload: bytes) -> None:
    _unpack_or_value_error(payload)


@given(
    st.dictionaries(
        st.sampled_from(["first", "last", "frames", "key", "epoch", "outcomes", "presence", "replaced"]), anything
    )
)
def test_unpacking_invalid_envelope_fields_raises_only_value_error(fields: dict[str, object]) -> None:
    _unpack_or_value_error(msgpack.packb({"v": VERSION, **fields}))


def _unpack_or_value_error(payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        Envelope.unpack(payload)


@given(st.dictionaries(st.sampled_from(["process", "batch", "key", "room", "messages"]), anything))
def test_reading_invalid_batch_fields_raises_only_value_error(fields: dict[str, object]) -> None:
    with contextlib.suppress(ValueError):
        Batch.of({"v": VERSION, **fields})
