"""The opening handshake (RFC 6455, 4.2), for the upgrade as nearly every client asks for it.

uvicorn would have it read by httptools, write it anew and have websockets read it once more, line by line in Python: a
third of what it costs to let somebody in.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

# More is websockets' to refuse, which has these limits for a line and for the headers
REQUEST_MOST = 16 * 1024  # bytes
LINE_MOST = 8192  # bytes
HEADERS_MOST = 128
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# What RFC 9110, 5 has in a header, one after the other; a target of printable ASCII; options of a connection
HEAD = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\n-\x1f\x7f]*\r\n)+\r\n")
TARGET = re.compile(rb"/[!-~]*")
OPTIONS = re.compile(rb"[a-z-]+(?:[ \t]*,[ \t]*[a-z-]+)*")
ONCE = frozenset((b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version", b"host", b"origin"))
NEVER = frozenset((b"sec-websocket-protocol", b"content-length", b"transfer-encoding"))


class Upgrade(NamedTuple):
    """What was asked for."""

    target: bytes  # path and query
    headers: list[tuple[bytes, bytes]]  # names in small letters
    key: bytes  # Sec-WebSocket-Key


def read(request: bytes) -> Upgrade | None:
    """A whole request, if it asks for a WebSocket in the plain way.

    None: it asks for something else, is not whole, is wrong somewhere, offers subprotocols, has a body or something
    twice. uvicorn and websockets then take it, or refuse it with the reason.
    """
    if len(request) > REQUEST_MOST:
        return None
    first, _, head = request.partition(b"\r\n")
    method, _, rest = first.partition(b" ")
    target, _, version = rest.partition(b" ")
    if method != b"GET" or version != b"HTTP/1.1" or not TARGET.fullmatch(target) or not HEAD.fullmatch(head):
        return None
    lines = head[:-4].split(b"\r\n")
    if len(lines) > HEADERS_MOST or max(len(first), *map(len, lines)) > LINE_MOST:
        return None
    headers = []
    found: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in ONCE:
            if name in found:
                return None
            found[name] = value
        elif name in NEVER:
            return None
        headers.append((name, value))
    key = found.get(b"sec-websocket-key", b"")
    connection = found.get(b"connection", b"").lower()
    plain = (
        found.get(b"upgrade", b"").lower() == b"websocket"
        and OPTIONS.fullmatch(connection) is not None
        and b"upgrade" in map(bytes.strip, connection.split(b","))
        and found.get(b"sec-websocket-version") == b"13"
        and _is_key(key)
    )
    return Upgrade(target, headers, key) if plain else None


def _is_key(key: bytes) -> bool:
    """Whether this is base64 of 16 bytes."""
    try:
        return len(key) == 24 and len(binascii.a2b_base64(key, strict_mode=True)) == 16
    except binascii.Error:
        return False


def answer(key: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The response that opens the WebSocket, with further headers."""
    accepted = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
    more = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accepted
        + b"\r\n"
        + more
        + b"\r\n"
    )
