"""Frames as bytes: encoding, reading payloads, skipping and splitting."""

import json

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from channelbox.realtime.frames import json_frame, payloads, skip, split, text_frame


def parsed(frame: bytes) -> Frame:
    """Return the frame as the websockets library parses it."""
    reader = StreamReader()
    reader.feed_data(frame)
    reader.feed_eof()
    steps = Frame.parse(reader.read_exact, mask=False)
    try:
        while True:
            next(steps)
    except StopIteration as result:
        return result.value


def test_frames_of_every_length_format_are_parsed_by_websockets() -> None:
    for size in (0, 1, 125, 126, 127, 65_535, 65_536, 70_000):
        frame = parsed(text_frame(b"x" * size))
        assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.TEXT, True, b"x" * size)


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none(), st.booleans())))
def test_json_survives_encoding_as_a_frame(content: dict[str, object]) -> None:
    ((_, payload),) = payloads(json_frame(content))
    assert json.loads(bytes(payload)) == content


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(-1, 25))
def test_skip_drops_the_first_frames(texts: list[bytes], count: int) -> None:
    left = skip(b"".join(map(text_frame, texts)), count)
    assert [bytes(payload) for _, payload in payloads(left)] == texts[max(0, count) :]


@given(st.lists(st.binary(max_size=300), max_size=30), st.integers(1, 1000))
def test_a_run_is_split_at_frame_boundaries(texts: list[bytes], max_bytes: int) -> None:
    frames = [text_frame(payload) for payload in texts]
    found = list(split(b"".join(frames), max_bytes))
    assert b"".join(part for part, _ in found) == b"".join(frames)
    at = 0
    for part, count in found:
        assert part == b"".join(frames[at : at + count])
        assert count == 1 or len(part) <= max_bytes
        at += count
        assert at == len(frames) or len(part) + len(frames[at]) > max_bytes, "as much as fits"
