"""WebSocket frames as bytes, encoded once for all receivers (RFC 6455, 5.2)."""

import json
from collections.abc import Iterator
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def frame(opcode: int, payload: bytes) -> bytes:
    """Return an unmasked, unfragmented frame."""
    size = len(payload)
    head = bytes((0x80 | opcode,))
    if size < 126:
        return head + size.to_bytes(1, "big") + payload
    if size < 65_536:
        return head + b"\x7e" + size.to_bytes(2, "big") + payload
    return head + b"\x7f" + size.to_bytes(8, "big") + payload


def text_frame(payload: bytes) -> bytes:
    """Return a text frame. The bytes are the same for every member in every process."""
    return frame(1, payload)


def close_payload(code: int, reason: str = "") -> bytes:
    """Return the payload of a Close frame. The reason is cut to 123 bytes (RFC 6455, 5.5)."""
    return code.to_bytes(2, "big") + reason.encode()[:123].decode(errors="ignore").encode()


def json_frame(content: Any) -> bytes:
    """Return a text frame with `content` as compact JSON."""
    return text_frame(_encode(content).encode())


def payloads(frames: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield for each frame of a run the offset of its end, and its payload.

    The run must consist of whole frames made by `text_frame`.
    """
    view = memoryview(frames)
    at = 0
    while at < len(view):
        size = view[at + 1]
        start = at + 2
        if size == 126:
            size, start = int.from_bytes(view[start : start + 2], "big"), start + 2
        elif size == 127:
            size, start = int.from_bytes(view[start : start + 8], "big"), start + 8
        at = start + size
        yield at, view[start:at]


def skip(frames: bytes, count: int) -> bytes:
    """Return the run without its first `count` frames."""
    if count <= 0:
        return frames
    for number, (end, _) in enumerate(payloads(frames), 1):
        if number == count:
            return frames[end:]
    return b""


def split(frames: bytes, max_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Split a run into parts of at most `max_bytes`, or of one longer frame. Yield each part with its frame count."""
    start = end = count = 0
    for next_end, _ in payloads(frames):
        if count and next_end - start > max_bytes:
            yield frames[start:end], count
            start, count = end, 0
        end = next_end
        count += 1
    if count:
        yield frames[start:], count
