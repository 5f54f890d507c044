"""The opening handshake, beside websockets' own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.server import ServerProtocol

from channelbox.realtime import handshake

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, 1.3
HEADERS = [
    (b"host", b"chat.example.org"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", KEY),
    (b"cookie", b"channelbox_session=abc; theme=dark"),
]


def request(headers: list[tuple[bytes, bytes]], first: bytes = b"GET /ws/chat/lobby/?after=3 HTTP/1.1") -> bytes:
    return b"\r\n".join([first, *(name + b": " + value for name, value in headers), b"", b""])


def test_the_example_of_the_standard() -> None:
    upgrade = handshake.read(request(HEADERS))
    assert upgrade == (b"/ws/chat/lobby/?after=3", HEADERS, KEY)
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in handshake.answer(KEY, [])


def test_names_in_any_letters_and_blanks_around_values() -> None:
    loud = [(name.title(), b"\t " + value + b" ") for name, value in HEADERS]
    assert handshake.read(request(loud)) == handshake.read(request(HEADERS))
    assert handshake.read(request(HEADERS).replace(b": ", b":")) == handshake.read(request(HEADERS))


@pytest.mark.parametrize(
    "odd",
    [
        request(HEADERS, b"POST / HTTP/1.1"),
        request(HEADERS, b"GET / HTTP/1.0"),
        request(HEADERS, "GET /\u00fc HTTP/1.1".encode()),
        request(HEADERS) + b"more",
        request(HEADERS)[:-2],
        request([*HEADERS, (b"x", b"y" * handshake.LINE_MOST)]),
        request([*HEADERS, *[(b"x", b"y" * (handshake.REQUEST_MOST // 3))] * 3]),
        request([*HEADERS, *[(b"x", b"y")] * handshake.HEADERS_MOST]),
        request([*HEADERS, (b"sec-websocket-protocol", b"chat")]),
        request([*HEADERS, (b"content-length", b"5")]),
        request([*HEADERS, (b"transfer-encoding", b"chunked")]),
        request([*HEADERS, (b"origin", b"https://a.example"), (b"origin", b"https://b.example")]),
        request([*HEADERS, HEADERS[3]]),
        request(HEADERS, b"GET http://chat.example.org/ws/ HTTP/1.1"),
        request(HEADERS, b"GET  / HTTP/1.1"),
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
def test_what_is_not_plain_is_left_to_websockets(odd: bytes) -> None:
    assert handshake.read(odd) is None


VALUES = st.sampled_from(
    [
        *(b"websocket", b"WebSocket", b"Upgrade", b"keep-alive, upgrade", b"close", b"13", b"8", KEY, KEY[:-1], b""),
        *(b"k\\ep-alive, Upgrade", b"{ x, Upgrade", b"Upgrade,", b"Upgrade;q=1", b"\xfc, Upgrade", b"x\ty, Upgrade"),
    ]
)
NAMES = st.sampled_from([*(name for name, _ in HEADERS), b"content-length", b"transfer-encoding", b"origin"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=3), st.sets(NAMES, max_size=2))
def test_nothing_is_taken_that_websockets_would_refuse(added: list[tuple[bytes, bytes]], left_out: set[bytes]) -> None:
    asked = request([*((name, value) for name, value in HEADERS if name not in left_out), *added])
    upgrade = handshake.read(asked)
    if upgrade is None:
        return
    server = ServerProtocol()
    server.receive_data(asked)
    (event,) = server.events_received()
    response = server.accept(event)  # type: ignore[arg-type]
    assert response.status_code == 101
    assert b"Accept: " + response.headers["Sec-WebSocket-Accept"].encode() in handshake.answer(upgrade.key, [])
