"""Frames of the load generator: it reads what servers write, and servers read what it writes."""

import pytest
from bench import frames
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from channelbox.realtime.frames import text_frame

SIZES = [0, 1, 125, 126, 65_535, 65_536]


@pytest.mark.parametrize("size", SIZES)
def test_masked_frames_are_read_by_a_server(size: int) -> None:
    server = Protocol(Side.SERVER, max_size=None)
    server.receive_data(frames.masked(frames.TEXT, b"x" * size))
    (frame,) = server.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.data, frame.fin) == (Opcode.TEXT, b"x" * size, True)


@pytest.mark.parametrize("size", SIZES)
def test_server_frames_are_split_and_the_remainder_is_kept(size: int) -> None:
    one, two = text_frame(b"x" * size), text_frame(b"second")
    whole, rest = frames.split(one + two[:-1])
    assert whole == [(frames.TEXT, b"x" * size)]
    assert frames.split(rest + two[-1:]) == ([(frames.TEXT, b"second")], b"")


def test_incomplete_headers_are_kept_for_later() -> None:
    for end in range(4):
        assert frames.split(text_frame(b"x" * 300)[:end]) == ([], text_frame(b"x" * 300)[:end])


@pytest.mark.parametrize("data", [b"\x01\x01x", b"\xc1\x01x", b"\x81\x81masked"])
def test_fragmented_reserved_and_masked_frames_are_errors(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an unmasked"):
        frames.split(data)


def test_a_message_has_128_bytes_and_its_number_is_found_anywhere() -> None:
    text = frames.message(42)
    assert len(text.encode()) == frames.SIZE
    assert frames.number_in(text.encode()) == 42
    assert frames.number_in(b'{"type":"message","message":"' + text.encode() + b'"}') == 42
    assert frames.number_in(b'{"type":"presence","count":3}') is None
    assert frames.number_in(b"~12") is None
