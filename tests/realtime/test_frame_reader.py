"""The frame parser: data split anywhere, bounded slices, and the same results as the websockets library."""

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.realtime.serving import FIN, masked
from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from channelbox.realtime.frame_reader import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameReader

MAX = 1000


def read(pieces: list[bytes], frames: int = 32, size: int = 16_384) -> tuple[list[Any], int | None]:
    """Return all events of the pieces, which are fed one by one, and the close code of a violation."""
    reader = FrameReader(MAX)
    events: list[Any] = []
    for piece in pieces:
        reader.feed(piece)
        while not reader.hungry and reader.violation is None:
            some, count, _ = reader.read(frames, size)
            assert count <= frames
            events += some
            if some and some[-1][0] == CLOSE:
                return events, None
    return events, reader.violation.code if reader.violation else None


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    positions = sorted({position % (len(data) + 1) for position in positions})
    return [data[a:b] for a, b in zip([0, *positions], [*positions, len(data)], strict=True)]


PAYLOADS = st.one_of(
    st.text(max_size=50).map(str.encode), st.binary(max_size=130), st.sampled_from([b"", b"\xc3", b"\xa4", b"x" * 600])
)
CODES = st.sampled_from(
    [b"", b"\x03", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xed", b"\x0b\xb8", b"\x13\x88", b"\x03\xe8\xff"]
)
OPCODES = st.sampled_from([TEXT, BINARY, CONTINUATION, PING, PONG, TEXT, CONTINUATION, 3, 11])
FRAMES = st.builds(
    masked,
    OPCODES,
    PAYLOADS,
    st.sampled_from([FIN, 0, FIN, 0, FIN | 0x40]),
    st.binary(min_size=4, max_size=4),
)
CLOSES = st.builds(masked, st.just(CLOSE), CODES)


@given(st.lists(FRAMES, max_size=8), CLOSES, st.lists(st.integers(0, 3000), max_size=5), st.integers(1, 9))
def test_results_match_those_of_the_websockets_library(
    frames: list[bytes], close: bytes, positions: list[int], max_frames: int
) -> None:
    """Except where the library is wrong: it checks text late, and refuses a Close between fragments.

    For a frame with two violations it reports the size first.
    """
    data = b"".join(frames) + close
    events, code = read(cut(data, positions), max_frames, max_frames * 7)

    library = ServerProtocol(state=OPEN, max_size=MAX)
    library.receive_data(data)
    expected: list[Any] = []
    parts: list[bytes] = []
    kind = 0
    expected_code = library.close_sent.code if library.parser_exc and library.close_sent else None
    for event in library.events_received():
        assert isinstance(event, Frame)
        if event.opcode in (TEXT, BINARY, CONTINUATION):
            kind = int(event.opcode) or kind
            parts.append(bytes(event.data))
            if event.fin:
                whole, parts = b"".join(parts), []
                try:
                    expected.append((kind, whole.decode() if kind == TEXT else whole))
                except UnicodeDecodeError:
                    expected_code = 1007
                    break
        else:
            expected.append((int(event.opcode), bytes(event.data)))
    if code == 1007 and expected_code != 1007:  # found in a fragment; its message never ended, or had another error
        assert events == expected[: len(events)]
    elif library.close_rcvd is not None and expected_code == 1002 and events and events[-1][0] == CLOSE:
        assert (events[:-1], code) == (expected, None)
    elif (expected_code, code) == (1009, 1002):
        assert events == expected
    else:
        assert (events, code) == (expected, expected_code)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        pytest.param(masked(CONTINUATION, b"x" * 600), 1009, id="too long"),
        pytest.param(masked(TEXT, b"x" * 600), 1002, id="too long, inside another message"),
        pytest.param(masked(CONTINUATION, b"x" * 600, FIN | 0x40), 1002, id="too long, with a reserved bit"),
    ],
)
def test_a_protocol_violation_takes_precedence_over_the_size(frame: bytes, code: int) -> None:
    assert read([masked(TEXT, b"x" * 600, 0) + frame]) == ([], code)


def test_slices_are_limited_in_frames_and_bytes() -> None:
    reader = FrameReader(2**20)
    reader.feed(masked(PING) * 1000 + masked(TEXT, b"x" * 100_000))
    seen = 0
    while not reader.hungry:
        events, frames, size = reader.read(32, 4096)
        assert frames <= 32
        assert size <= 4096 + 139, "a control frame is read as a whole"
        seen += len(events)
    assert seen == 1001


def test_a_partial_message_takes_no_more_memory_than_its_bytes() -> None:
    reader = FrameReader(MAX)
    reader.feed(masked(TEXT, first=0) + masked(CONTINUATION, first=0) * 10_000 + masked(CONTINUATION, b"x", first=0))
    while not reader.hungry:
        assert reader.read(1000, 2**20)[0] == []
    assert reader._message == b"x"
    assert sys.getsizeof(reader._message) < 200
    assert reader._data == b""


@pytest.mark.parametrize(
    "frames",
    [
        masked(TEXT, b"x" * MAX, first=0) + masked(CONTINUATION, b"x", first=0),
        masked(BINARY, b"x", first=0) + masked(CONTINUATION, b"x" * MAX),
        masked(TEXT, b"x" * 300_000),
        b"\x81\xff" + b"\xff" * 8,
    ],
    ids=["over fragments", "the last fragment", "a large frame", "an endless frame, before its mask"],
)
def test_an_oversized_message_is_detected_from_the_frame_header(frames: bytes) -> None:
    reader = FrameReader(MAX)
    reader.feed(frames)
    while reader.violation is None:
        assert not reader.hungry
        reader.read(32, 100)
    assert reader.violation.code == 1009


@pytest.mark.parametrize("text", [b"\xce\xba\xe1\xbd\xb9\xf4\x90", b"\xed\xa0\x80", b"a\xff", b"\xc0\xaf", b"\xf8"])
def test_invalid_utf8_is_detected_before_the_frame_is_complete(text: bytes) -> None:
    reader = FrameReader(MAX)
    reader.feed(masked(TEXT, text + b"x" * 500)[: 8 + len(text)])
    reader.read(32, 4096)
    assert reader.violation is not None
    assert reader.violation.code == 1007


def test_skip_discards_everything_until_a_close_frame() -> None:
    reader = FrameReader(MAX)
    reader.feed(masked(TEXT, b"x" * MAX)[:-1])
    reader.read(32, 100)
    reader.feed(b"x" + masked(3, first=0x70) + masked(BINARY, b"x" * 100_000) + masked(CLOSE)[:1])
    assert reader.skip(100) == (False, 2)
    reader.feed(masked(CLOSE)[1:])
    assert reader.skip(100) == (True, 0)
    reader.feed(masked(PING) * 50)
    assert reader.skip(20) == (False, 20)
