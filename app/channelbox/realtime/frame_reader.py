"""An incremental parser of client WebSocket frames (RFC 6455, 5) that reads a bounded amount at a time.

It replaces the parser of the library `websockets`, which parses all its input in one go, so that many small frames of
one client block the event loop; leaves the validation of text to its caller; and refuses a Close frame between the
fragments of a message, which RFC 6455, 5.4 and 5.5 allow (websockets 17.4, `Protocol.recv_frame`).
"""

import codecs
from typing import Any

from websockets.frames import apply_mask  # in C, if the installed wheel includes it

from channelbox.realtime.errors import Close

MAX_CONTROL_BYTES = 125  # of payload (5.5)
# Close codes that a client may send (7.4.1 and IANA's registry); beside them 3000 to 4999 (7.4.2)
CLOSE_CODES = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))

_utf8_decoder = codecs.getincrementaldecoder("utf-8")

# Opcodes, and bits of a frame's first two bytes (5.2)
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, RESERVED, CONTROL, MASKED = 0x80, 0x70, 0x08, 0x80

# An opcode with the text or the bytes of a message, or with the payload of a control frame
Event = tuple[int, Any]


class Violation(Exception):
    """A violation of the protocol by the client. `code` and `reason` are for the Close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameReader:
    """Parser of one client's frames. `max_bytes` limits the size of a message, summed over its fragments."""

    __slots__ = (
        "_at",
        "_data",
        "_decoder",
        "_head",
        "_kind",
        "_left",
        "_mask",
        "_max",
        "_message",
        "hungry",
        "violation",
    )

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._data = b""  # received bytes, read up to `_at`
        self._at = 0
        self._head = 0  # first byte of the frame whose payload is being read
        self._left = 0  # bytes of its payload that are not read yet
        self._mask = b""
        self._kind = 0  # TEXT or BINARY while a message is being read
        self._message: bytearray | None = None  # payload so far of a message that is not complete
        self._decoder: codecs.IncrementalDecoder | None = None
        self.hungry = True  # nothing more can be read until more is fed
        self.violation: Violation | None = None  # set by `read`, which still returns the events before it

    def feed(self, data: bytes) -> None:
        """Append received bytes. They stay unread until `read` or `skip` is called."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0
        self.hungry = False

    def read(self, max_frames: int, max_bytes: int) -> tuple[list[Event], int, int]:
        """Read at most `max_frames` frames and about `max_bytes` bytes.

        Returns the complete messages and control frames, the number of frames that were begun, and the number of bytes
        read. Stops after a Close frame, or at a violation of the protocol, which sets `violation`.
        """
        events: list[Event] = []
        frames = 0
        start = self._at
        end = min(len(self._data), start + max_bytes)
        try:
            while not events or events[-1][0] != CLOSE:
                if not self._left:
                    if frames >= max_frames or self._at >= end:
                        break
                    if not self._header():
                        self.hungry = True
                        break
                    frames += 1
                elif self._at >= end:
                    break
                self._payload(min(self._left, max(0, end - self._at)), events)
        except Violation as violation:
            self.violation = violation
        size = self._at - start
        self._trim()
        return events, frames, size

    def skip(self, max_frames: int) -> tuple[bool, int]:
        """Skip frames up to a Close frame; nothing else matters after the server has sent its own.

        Returns whether a Close frame was found, and the number of frames skipped.
        """
        for frames in range(max_frames):
            step = min(self._left, len(self._data) - self._at)
            self._at += step
            self._left -= step
            if self._left or not self._header(check=False):
                self.hungry = True
                self._trim()
                return False, frames
            if self._head & 0x0F == CLOSE:
                return True, frames
        return False, max_frames

    @property
    def close_read(self) -> bool:
        """Return whether the last frame was a Close frame, so that nothing follows."""
        return self._head & 0x0F == CLOSE and not self._left

    def _trim(self) -> None:
        """Drop the bytes that were read, so that an idle connection holds none."""
        if self._at >= len(self._data):
            self.hungry = True
        if self.hungry:
            self._data = self._data[self._at :]
            self._at = 0

    def _header(self, check: bool = True) -> bool:
        """Read a frame's header. Returns False if it is incomplete, as is a control frame without all of its payload.

        Raises Violation.
        """
        data, at = self._data, self._at
        known = len(data) - at
        if known < 2:
            return False
        head, length = data[at], data[at + 1]
        masked = length & MASKED
        length &= 0x7F
        at += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if known < 2 + size:
                if check:  # an error in the first two bytes is reported at once, as the rest may never come
                    self._check(head, masked, length)
                return False
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if masked:
            self._mask = data[at : at + 4]
            at += 4
        # A control frame is read as a whole, as it may arrive in pieces between the fragments of a message.
        if len(data) < at + (length if head & CONTROL and check else 0):
            if check:
                self._check(head, masked, length)
            return False
        self._head, self._left, self._at = head, length, at
        if check:
            self._check(head, masked, length)
            if 0 < head & 0x0F < CONTROL:
                self._kind = head & 0x0F
        return True

    def _check(self, head: int, masked: int, length: int) -> None:
        """Raise Violation if this header is not allowed here (5.1 to 5.5)."""
        opcode = head & 0x0F
        if head & RESERVED:
            raise Violation(Close.PROTOCOL_ERROR, "reserved bits must be 0")
        if opcode > PONG or BINARY < opcode < CLOSE:
            raise Violation(Close.PROTOCOL_ERROR, "unknown opcode")
        if not masked:
            raise Violation(Close.PROTOCOL_ERROR, "a client's frames must be masked")
        if opcode & CONTROL:
            if not head & FIN:
                raise Violation(Close.PROTOCOL_ERROR, "fragmented control frame")
            if length > MAX_CONTROL_BYTES:
                raise Violation(Close.PROTOCOL_ERROR, "control frame too long")
        elif opcode == CONTINUATION and not self._kind:
            raise Violation(Close.PROTOCOL_ERROR, "continuation of nothing")
        elif opcode != CONTINUATION and self._kind:
            raise Violation(Close.PROTOCOL_ERROR, "a message began inside another")
        elif length + len(self._message or b"") > self._max:
            raise Violation(Close.TOO_BIG, f"more than {self._max} bytes")

    def _payload(self, size: int, events: list[Event]) -> None:
        """Read `size` bytes of the payload, and add the event that they complete, if any. Raises Violation."""
        head = self._head
        if head & CONTROL:
            size = self._left
        data = self._data[self._at : self._at + size]
        if size:
            data = apply_mask(data, self._mask)
            self._mask = self._mask[size % 4 :] + self._mask[: size % 4]
        self._at += size
        self._left -= size
        if head & CONTROL:
            if head & 0x0F == CLOSE:
                _check_close(data)
            events.append((head & 0x0F, data))
            return
        last = not self._left and head & FIN
        if last and self._message is None:  # a whole message in one piece, as in nearly all cases
            payload: bytes | bytearray = data
        else:
            if self._message is None:
                self._message = bytearray()
            self._message += data
            payload = self._message
            if self._kind == TEXT:
                self._decode(data, bool(last))
        if last:
            events.append((self._kind, _text(payload) if self._kind == TEXT else bytes(payload)))
            self._kind = 0
            self._message = self._decoder = None

    def _decode(self, data: bytes, last: bool) -> None:
        """Check that a piece of a text continues valid UTF-8, so that a wrong byte is refused at once (8.1)."""
        if self._decoder is None:
            self._decoder = _utf8_decoder()
        try:
            self._decoder.decode(data, last)
        except UnicodeDecodeError:
            raise Violation(Close.INVALID_TEXT, "not UTF-8") from None


def _text(payload: bytes | bytearray) -> str:
    """Decode a whole message. Raises Violation."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Violation(Close.INVALID_TEXT, "not UTF-8") from None


def _check_close(payload: bytes) -> None:
    """Raise Violation for a Close frame whose code or reason is not allowed (5.5.1, 7.4)."""
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (code in CLOSE_CODES or 3000 <= code < 5000):
        raise Violation(Close.PROTOCOL_ERROR, "invalid close code")
    _text(payload[2:])
