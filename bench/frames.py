"""WebSocket frames as a client writes and reads them (RFC 6455, 5.2), and messages that can be told apart in them."""

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
SIZE = 128  # bytes of a message
MARK = b"~"
DIGITS = 10

Frame = tuple[int, bytes]  # opcode, payload


def masked(opcode: int, payload: bytes) -> bytes:
    """A client's frame. The mask is zero, which every server has to take and which costs the generator nothing."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def split(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames at the start of what a server sent, and the rest. Raises ValueError for any other bytes."""
    frames = []
    at = 0
    while len(data) - at >= 2:
        head, size = data[at], data[at + 1]
        if not head & 0x80 or head & 0x70 or size & 0x80:
            raise ValueError(f"not an unmasked, whole, uncompressed frame: {data[at : at + 20]!r}")
        start = at + 2
        if size == 126:
            size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
        elif size == 127:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        if len(data) < start + size:
            break
        at = start + size
        frames.append((head & 0x0F, data[start:at]))
    return frames, data[at:]


def message(number: int) -> str:
    """A text of 128 bytes that is known again by its number, whatever a server wraps it in."""
    return f"~{number:0{DIGITS}d}".ljust(SIZE, "x")


def number_in(payload: bytes) -> int | None:
    """The number of the message in this payload; None where there is no message of ours."""
    at = payload.find(MARK)
    digits = payload[at + 1 : at + 1 + DIGITS]
    return int(digits) if at >= 0 and digits.isdigit() and len(digits) == DIGITS else None
