"""WebSocket frames as a client writes and reads them (RFC 6455, 5.2), and numbered messages to find in them."""

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
SIZE = 128  # bytes of a message
MARK = b"~"
DIGITS = 10

Frame = tuple[int, bytes]  # opcode, payload


def masked(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame. Its mask is zero, which servers must accept and which costs the generator nothing."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def split(data: bytes) -> tuple[list[Frame], bytes]:
    """Split bytes from a server into its complete frames and the remaining bytes.

    Raises ValueError for a frame that is masked, fragmented or compressed.
    """
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
    """Return a text of 128 bytes with this number, which `number_in` finds whatever a server wraps around the text."""
    return f"~{number:0{DIGITS}d}".ljust(SIZE, "x")


def number_in(payload: bytes) -> int | None:
    """Return the number of the message in this payload, or None if it has no such message."""
    at = payload.find(MARK)
    digits = payload[at + 1 : at + 1 + DIGITS]
    return int(digits) if at >= 0 and digits.isdigit() and len(digits) == DIGITS else None
