"""The opening handshake: plain requests, refusals with their status, and a comparison with uvicorn's own protocol."""

import asyncio
import functools
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from channelbox.realtime import handshake
from channelbox.realtime.protocol_switch import ProtocolSwitch

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # from RFC 6455, 1.3
HEADERS = [
    (b"host", b"chat.example.org"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", KEY),
    (b"cookie", b"channelbox_session=abc; theme=dark"),
]
LINE = b"GET /ws/chat/lobby/?after=3 HTTP/1.1"


def request(headers: list[tuple[bytes, bytes]], line: bytes = LINE) -> bytes:
    return b"\r\n".join([line, *(name + b": " + value for name, value in headers), b"", b""])


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    return [header for header in HEADERS if header[0] != name]


def test_the_example_request_of_rfc_6455_is_answered() -> None:
    upgrade = handshake.read(request(HEADERS))
    assert upgrade == (b"/ws/chat/lobby/?after=3", HEADERS, KEY, [])
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in handshake.answer(KEY, [])


def test_header_case_and_surrounding_whitespace_are_ignored() -> None:
    loud = [(name.title(), b"\t " + value + b" ") for name, value in HEADERS]
    assert handshake.read(request(loud)) == handshake.read(request(HEADERS))
    assert handshake.read(request(HEADERS).replace(b": ", b":")) == handshake.read(request(HEADERS))


@pytest.mark.parametrize(
    "odd",
    [
        request(HEADERS, b"GET / HTTP/1.0"),
        request(HEADERS, "GET /\u00fc HTTP/1.1".encode()),
        request(HEADERS, b"GET  / HTTP/1.1"),
        request(HEADERS) + b"more",
        request(HEADERS)[:-2],
        request([*HEADERS, (b"x", b"y" * handshake.MAX_LINE_BYTES)]),
        request(HEADERS).replace(b"host: ", b"host : "),
        request(HEADERS).replace(b"host: ", b" host: "),
        request(HEADERS).replace(b"host: ", b"host"),
        request(HEADERS).replace(b"host: ", b": "),
        request([*HEADERS, (b"x", b"a\x00b")]),
        request([*HEADERS, (b"x", b"a\rb")]),
        request([*HEADERS, (b"x", b"a\nb: c")]),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_requests_that_are_not_plain_are_left_to_httptools(odd: bytes) -> None:
    assert handshake.read(odd) is None


REFUSED: dict[str, tuple[int, list[tuple[bytes, bytes]]]] = {
    "no host": (400, without(b"host")),
    "two hosts": (400, [*HEADERS, HEADERS[0]]),
    "two origins": (400, [*HEADERS, (b"origin", b"https://a.example"), (b"origin", b"https://b.example")]),
    "two versions": (400, [*HEADERS, HEADERS[3]]),
    "two keys": (400, [*HEADERS, HEADERS[4]]),
    "no key": (400, without(b"sec-websocket-key")),
    "a short key": (400, [*without(b"sec-websocket-key"), (b"sec-websocket-key", KEY[4:])]),
    "a key that is not base64": (400, [*without(b"sec-websocket-key"), (b"sec-websocket-key", b"-" * 22 + b"==")]),
    "another version": (426, [*without(b"sec-websocket-version"), (b"sec-websocket-version", b"8")]),
    "no version": (426, without(b"sec-websocket-version")),
    "no Upgrade header": (426, without(b"upgrade")),
    "another Upgrade value": (426, [*without(b"upgrade"), (b"upgrade", b"h2c")]),
    "no Connection header": (426, without(b"connection")),
    "another Connection value": (426, [*without(b"connection"), (b"connection", b"close")]),
    "an invalid Connection list": (400, [*without(b"connection"), (b"connection", b"Upgrade; q=1")]),
    "an invalid subprotocol list": (400, [*HEADERS, (b"sec-websocket-protocol", b"a b")]),
    "a body": (400, [*HEADERS, (b"content-length", b"5")]),
    "a chunked body": (400, [*HEADERS, (b"transfer-encoding", b"chunked")]),
    "too many headers": (431, [*HEADERS, *[(b"x", b"y")] * handshake.MAX_HEADERS]),
    "a header too long": (431, [*HEADERS, (b"x", b"y" * handshake.MAX_LINE_BYTES)]),
    "headers too long in total": (431, [*HEADERS, *[(b"x", b"y" * 8000)] * 9]),
}


@pytest.mark.parametrize(("status", "headers"), REFUSED.values(), ids=REFUSED)
def test_invalid_headers_are_refused_with_the_right_status(status: int, headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(handshake.Refusal) as refused:
        handshake.check(b"GET", b"/", headers, "1.1")
    assert refused.value.status == status
    if status == 426:
        assert (b"Upgrade", b"websocket") in refused.value.headers


@pytest.mark.parametrize(
    ("method", "target", "version", "status"),
    [
        (b"POST", b"/", "1.1", 405),
        (b"GET", b"/", "1.0", 426),
        (b"GET", b"*", "1.1", 400),
        (b"GET", b"http://chat.example.org", "1.1", 400),
        (b"GET", b"/" + b"x" * handshake.MAX_LINE_BYTES, "1.1", 414),
    ],
)
def test_an_invalid_request_line_is_refused(method: bytes, target: bytes, version: str, status: int) -> None:
    with pytest.raises(handshake.Refusal) as refused:
        handshake.check(method, target, HEADERS, version)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "target", [b"http://chat.example.org/ws/?a=http://b/", b"HTTPS://chat.example.org:443/ws/?a=1"]
)
def test_an_absolute_request_target_is_reduced_to_its_path(target: bytes) -> None:
    assert handshake.check(b"GET", target, HEADERS, "1.1").target.startswith(b"/ws/?a=")


# --- Comparison with uvicorn's own protocol


class Site:
    """An application that accepts every WebSocket, keeps its scope, and answers 404 to other requests."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            self.scope = {name: scope[name] for name in ("path", "raw_path", "query_string", "headers")}
            self.scope["subprotocols"] = [*filter(None, scope["subprotocols"])]  # uvicorn has an empty one for "a,"
            await receive()
            await send({"type": "websocket.accept", "headers": [(b"x-more", b"1")]})
            await receive()
        else:
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})


class Side:
    """One implementation of the protocol, with an application of its own."""

    def __init__(self, protocol: Callable[..., asyncio.Protocol], loop: asyncio.AbstractEventLoop) -> None:
        self.site = Site()
        config = uvicorn.Config(self.site, ws=WebSocketsSansIOProtocol, log_config=None, ws_per_message_deflate=False)
        config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"server", b"test")]
        self.make = functools.partial(protocol, config=config, server_state=self.state, app_state={}, _loop=loop)

    async def answer(self, request_bytes: bytes) -> tuple[int, dict[bytes, bytes]]:
        """Return the status and the headers of the answer; 0 if the connection was closed without one."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(self.make, theirs)
        answer = b""
        async with asyncio.timeout(5):
            await loop.sock_sendall(ours, request_bytes)
            while b"\r\n\r\n" not in answer and (data := await loop.sock_recv(ours, 65_536)):
                answer += data
        ours.close()
        transport.abort()
        while self.state.tasks or self.state.connections:
            await asyncio.sleep(0)
        if not answer:
            return 0, {}
        status, *lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
        headers = [line.partition(b": ") for line in lines]
        return int(status.split(b" ")[1]), {name.lower(): value for name, _, value in headers}


@pytest.fixture(scope="module")
def compare() -> Iterator[Callable[[bytes], int]]:
    """Return a function that sends a request to both, compares what ours accepts, and returns our status."""
    loop = asyncio.new_event_loop()
    ours, theirs = Side(ProtocolSwitch, loop), Side(HttpToolsProtocol, loop)

    def ask(request_bytes: bytes) -> int:
        status, headers = loop.run_until_complete(ours.answer(request_bytes))
        assert status, "every request is answered"
        if status == 101:
            assert loop.run_until_complete(theirs.answer(request_bytes)) == (101, headers)
            assert ours.site.scope == theirs.site.scope
        return status

    yield ask
    loop.close()


def test_plain_requests_are_answered_as_by_uvicorn(compare: Callable[[bytes], int]) -> None:
    assert compare(request(HEADERS)) == 101
    assert compare(request([*HEADERS, (b"sec-websocket-protocol", b"chat, v2")])) == 101
    assert compare(request(HEADERS) + b"\x81\x80\0\0\0\0") == 101
    assert compare(request([*HEADERS, (b"content-length", b"5")]) + b"hello") == 400


VALUES = st.sampled_from(
    [
        *(b"websocket", b"WebSocket", b"Upgrade", b"keep-alive, upgrade", b"close", b"13", b"8", KEY, KEY[:-1], b""),
        *(b"k\\ep-alive, Upgrade", b"{ x, Upgrade", b"Upgrade,", b"Upgrade;q=1", b"\xfc, Upgrade", b"x\ty, Upgrade"),
        *(
            b"0",
            b"5",
            b"chunked",
            b"h2c, websocket",
            b" 13 ",
            b"\t",
            b"https://a.example",
            b"a\r\n b",
            b"a\r\nb",
            b"\0",
        ),
    ]
)
NAMES = st.sampled_from(
    [
        *(name for name, _ in HEADERS),
        *(name.title() for name, _ in HEADERS),
        *(b"content-length", b"transfer-encoding", b"origin", b"sec-websocket-protocol", b"sec-websocket-extensions"),
        *(b"expect", b"host ", b" host", b"h\xc3\xb6st", b"x" * 9000),
    ]
)
LINES = st.sampled_from(
    [
        *[LINE] * 10,
        *(b"GET / HTTP/1.0", b"POST / HTTP/1.1", b"GET /%41%ff?%41 HTTP/1.1", b"GET //a#b HTTP/1.1", b"GET * HTTP/1.1"),
        *(b"get / HTTP/1.1", b"GET  / HTTP/1.1", b"GET /", b"GET /\xc3\xbc HTTP/1.1", b'GET /{"|\\^`} HTTP/1.1'),
        *(
            b"GET / HTTP/1.2",
            b"GET / http/1.1",
            b"GET / ICE/1.0",
            b"GET /" + b"x" * 9000 + b" HTTP/1.1",
            b"",
            b"\x16\x03",
        ),
    ]
)
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=3)
BEHIND = st.sampled_from([b"", b"", b"", b"hello", b"\x81\x80\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n"])


@settings(max_examples=1000)
@given(LINES, LISTS, st.sets(NAMES, max_size=1), BEHIND)
def test_no_request_is_accepted_that_uvicorn_refuses(
    compare: Callable[[bytes], int], line: bytes, added: list[tuple[bytes, bytes]], left_out: set[bytes], behind: bytes
) -> None:
    headers = [(name, value) for name, value in HEADERS if name not in left_out]
    compare(request([*headers, *added], line) + behind)


@settings(max_examples=1000)
@given(st.integers(0, len(request(HEADERS)) - 4), st.integers(0, 3), st.binary(max_size=3))
def test_no_corrupted_request_is_accepted_that_uvicorn_refuses(
    compare: Callable[[bytes], int], at: int, removed: int, put: bytes
) -> None:
    plain = request(HEADERS)
    compare(plain[:at] + put + plain[min(at + removed, len(plain) - 4) :] + b"\r\n\r\n")
