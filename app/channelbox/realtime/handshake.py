"""The opening handshake (RFC 6455, 4.2): checks upgrade requests and builds the responses.

`read` parses a request that is complete and in plain form, as nearly all are, straight from its bytes. All others are
parsed by httptools (`http_protocol`) and checked by `check`, by the same rules.
"""

import base64
import binascii
import hashlib
import http
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MAX_LINE_BYTES = 8192  # the request line, or a header; nginx accepts no longer ones either
MAX_HEAD_BYTES = 64 * 1024  # of any request: its line and headers; nginx accepts 32 KiB and adds its own
MAX_HEADERS = 128
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = b"13"

# The header lines that RFC 9110, 5 allows; a target of printable ASCII; a token
HEAD = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\n-\x1f\x7f]*\r\n)+\r\n")
TARGET = re.compile(rb"(?:https?://[^/?#]*(?=/))?(/[!-~]*)", re.IGNORECASE)
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
SINGLE_HEADERS = frozenset(
    (b"upgrade", b"sec-websocket-key", b"sec-websocket-version", b"host", b"origin", b"content-length")
)

Headers = list[tuple[bytes, bytes]]


class Upgrade(NamedTuple):
    """A valid upgrade request."""

    target: bytes  # path and query
    headers: Headers  # names in lower case
    key: bytes  # Sec-WebSocket-Key
    subprotocols: list[str]


class Refusal(Exception):
    """Raised for a request that is answered with an error status."""

    def __init__(self, status: int, reason: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = list(headers)


def read(request: bytes) -> Upgrade | None:
    """Return the upgrade that these bytes request.

    Returns None if they are not one complete request for a WebSocket in plain form. Then httptools must parse them.
    """
    if len(request) > MAX_LINE_BYTES:
        return None
    first, _, head = request.partition(b"\r\n")
    method, _, rest = first.partition(b" ")
    target, _, version = rest.partition(b" ")
    if method != b"GET" or version != b"HTTP/1.1" or not TARGET.fullmatch(target) or not HEAD.fullmatch(head):
        return None
    headers = []
    for line in head[:-4].split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    if len(headers) > MAX_HEADERS or sum(name == b"connection" for name, _ in headers) > 1:
        return None
    try:
        return _check(b"GET", target, headers, "1.1")
    except Refusal:
        return None


def check(method: bytes, target: bytes, headers: Headers, version: str) -> Upgrade:
    """Return the upgrade that a parsed request asks for. Header names are in lower case.

    Raises Refusal if the request is too large or not a valid upgrade request.
    """
    check_size(method, target, headers)
    return _check(method, target, headers, version)


def _check(method: bytes, target: bytes, headers: Headers, version: str) -> Upgrade:
    """Check a request as `check` does, except for its size."""
    if method != b"GET":
        raise Refusal(405, "A WebSocket request must use GET.", [(b"Allow", b"GET")])
    if version != "1.1":
        raise _upgrade_required("A WebSocket request must use HTTP/1.1.")
    found: dict[bytes, bytes] = {}
    connection: list[bytes] = []
    subprotocols: list[bytes] = []
    for name, value in headers:
        if name in SINGLE_HEADERS:
            if name in found:
                raise Refusal(400, f"The header {name.decode()} is present twice.")
            found[name] = value
        elif name == b"connection":
            connection += _tokens(value.lower())
        elif name == b"sec-websocket-protocol":
            subprotocols += _tokens(value)
        elif name == b"transfer-encoding":
            raise Refusal(400, "A WebSocket request must not have a body.")
    if found.get(b"content-length", b"0") != b"0":
        raise Refusal(400, "A WebSocket request must not have a body.")
    if b"host" not in found:
        raise Refusal(400, "The header Host is missing.")
    if b"upgrade" not in connection or found.get(b"upgrade", b"").lower() != b"websocket":
        raise _upgrade_required("A WebSocket request must have the headers Connection: Upgrade and Upgrade: websocket.")
    if found.get(b"sec-websocket-version") != VERSION:
        raise _upgrade_required("The only supported version of the WebSocket protocol is 13.")
    key = found.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        raise Refusal(400, "Sec-WebSocket-Key must be 16 bytes in base64.")
    path = TARGET.fullmatch(target)
    if path is None:
        raise Refusal(400, "The target of a WebSocket request must be a path.")
    return Upgrade(path[1], headers, key, [each.decode() for each in subprotocols])


def check_size(method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raise Refusal if the target or the headers of a request are too large. This holds for requests of any kind."""
    if len(method) + len(target) + len(b"  HTTP/1.1") > MAX_LINE_BYTES:
        raise Refusal(414, f"The request line is longer than {MAX_LINE_BYTES} bytes.")
    sizes = [len(name) + len(value) + len(b": ") for name, value in headers]
    if len(sizes) > MAX_HEADERS or sum(sizes) > MAX_HEAD_BYTES or max(sizes, default=0) > MAX_LINE_BYTES:
        most = f"{MAX_HEADERS} headers, {MAX_LINE_BYTES} bytes in one or {MAX_HEAD_BYTES} in all"
        raise Refusal(431, f"The headers are too large. Limits: {most}.")


def _upgrade_required(reason: str) -> Refusal:
    return Refusal(426, reason, [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", VERSION)])


def _tokens(value: bytes) -> list[bytes]:
    """Return the tokens of a comma-separated list (RFC 9110, 5.6.1). Raises Refusal."""
    tokens = [each for piece in value.split(b",") if (each := piece.strip(b" \t"))]
    if not tokens or not all(map(TOKEN.fullmatch, tokens)):
        raise Refusal(400, "A header that must be a list of tokens is not one.")
    return tokens


def _is_key(key: bytes) -> bool:
    """Return whether this is the base64 encoding of 16 bytes."""
    try:
        return len(key) == 24 and len(binascii.a2b_base64(key, strict_mode=True)) == 16
    except binascii.Error:
        return False


def answer(key: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the response that accepts the WebSocket. `key`: Sec-WebSocket-Key. `headers` are added to it."""
    accepted = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accepted
        + b"\r\n"
        + _lines(headers)
        + b"\r\n"
    )


def refusal(status: int, body: str | bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a response that ends the connection. `body` is plain text unless `headers` has a Content-Type."""
    if isinstance(body, str):
        body = f"{body}\n".encode() if body else b""
    headers = list(headers)
    names = {name.lower() for name, _ in headers}
    if b"content-type" not in names:
        headers.append((b"Content-Type", b"text/plain; charset=utf-8"))
    if b"content-length" not in names:
        headers.append((b"Content-Length", b"%d" % len(body)))
    # The Upgrade header of a 426 must be listed in Connection, too (RFC 9110, 7.8).
    headers.append((b"Connection", b"close, Upgrade" if b"upgrade" in names else b"close"))
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode() + _lines(headers) + b"\r\n" + body


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in headers)
