"""Hostile HTTP requests and upgrades get the expected status, and do not affect other clients."""

import asyncio
import json
import os
from typing import Any

import pytest
from tests.integration.hostile import KIB, ROOM, SOCKETS, others_unaffected, strict  # noqa: F401 - a fixture
from tests.integration.local import Installation

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def exchange(local: Installation, request: bytes) -> bytes:
    """Send a request on a new connection, and return everything received until it is closed, b"" if it is reset."""
    host, port = local.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 15)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def request(local: Installation, target: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    host = [] if any(header.lower().startswith("host:") for header in headers) else ["Host: 127.0.0.1"]
    lines = [f"{method} {target} HTTP/1.1", *host, "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin1") + body


FORM = "Content-Type: application/x-www-form-urlencoded"
ROOMS = "/chat/api/rooms"
HISTORY = f"{ROOMS}/{ROOM}/messages"

PAGES: dict[str, tuple[tuple[Any, ...], dict[str, Any], set[int]]] = {
    "no such page": (("/nothing",), {}, {404}),
    "path traversal": (("/static/../../settings.py",), {}, {404}),
    "encoded path traversal": (("/static/%2e%2e/%2e%2e/settings.py",), {}, {404}),
    "a NUL in the path": (("/chat/room/a%00b/",), {}, {404}),
    "a path that is not UTF-8": (("/chat/room/%ff%fe/",), {}, {404}),
    "invalid percent encoding": (("/chat/room/%zz%/",), {}, {404}),
    "a room name that is too long": (("/chat/room/" + "x" * 81 + "/",), {}, {404}),
    "markup as a room name": (("/chat/room/<script>/",), {}, {404}),
    "a long target": (("/" + "x" * 60_000,), {}, {400, 404, 414, 431}),
    "a foreign host": (("/chat/", "Host: evil.example"), {}, {400}),
    "an invalid host": (("/chat/", "Host: 127.0.0.1:<script>"), {}, {400}),
    "an invalid session": (("/chat/", "Cookie: channelbox_session=\xff\xfe'; DROP"), {}, {200}),
    "a long cookie": (("/chat/", "Cookie: channelbox_session=" + "x" * 30_000), {}, {200, 400, 431}),
    "many headers": (("/chat/", *(f"X-{n}: {n}" for n in range(2000))), {}, {200, 400, 431}),
    "history before a word": ((HISTORY + "?before=x",), {}, {400}),
    "history before a negative": ((HISTORY + "?before=-1",), {}, {400}),
    "history before a huge number": ((HISTORY + "?before=" + "9" * 30,), {}, {400}),
    "history with a NUL": ((HISTORY + "?before=%00",), {}, {400}),
    "history with a huge limit": ((HISTORY + "?limit=999999999999",), {}, {200}),
    "history with limit 0": ((HISTORY + "?limit=0",), {}, {200}),
    "history of an unknown room": (("/chat/api/rooms/no-such-room/messages",), {}, {403}),
    "POST to the history": ((HISTORY,), {"method": "POST"}, {405}),
    "DELETE of the history": ((HISTORY,), {"method": "DELETE"}, {405}),
    "history with a NUL in the session": ((HISTORY, 'Cookie: channelbox_session="abcdefgh\\000"'), {}, {200}),
    "room search with a NUL": ((ROOMS + "?search=a%00b",), {}, {400}),
    "room search that is not UTF-8": ((ROOMS + "?search=%ff%fe",), {}, {200}),
    "room search that is too long": ((ROOMS + "?search=" + "x" * 5000,), {}, {400}),
    "rooms before a word": ((ROOMS + "?before=x",), {}, {400}),
    "POST to the rooms": ((ROOMS,), {"method": "POST"}, {405}),
    "unknown API path": (("/chat/api/x",), {}, {404}),
    "POST to an unknown API path": (("/chat/api/x",), {"method": "POST"}, {405}),
    "an unknown method": (("/chat/",), {"method": "BREW"}, {400, 405}),
    "a sign-in without CSRF token": (
        ("/accounts/login/", FORM),
        {"method": "POST", "body": b"username=admin&password=x"},
        {403},
    ),
    "a sign-in of 5 MiB": (
        ("/accounts/login/", FORM),
        {"method": "POST", "body": b"x" * 5 * KIB * KIB},
        {400, 403, 413},
    ),
    "a form of 5,000 fields": (
        ("/accounts/login/", FORM),
        {"method": "POST", "body": b"&".join(b"a%d=1" % n for n in range(5000))},
        {400, 403},
    ),
    "an invalid multipart body": (
        ("/accounts/login/", "Content-Type: multipart/form-data; boundary=x"),
        {"method": "POST", "body": b"--x\r\nnonsense"},
        {400, 403},
    ),
    "sign-out by GET": (("/accounts/logout/",), {}, {405}),
    "sign-in with a redirect to another site": (("/accounts/login/?next=https://evil.example/",), {}, {200}),
    "the admin site": (("/admin/",), {}, {302}),
    "a socket without an upgrade": ((SOCKETS[0],), {}, {404}),
}


@pytest.mark.parametrize(("arguments", "options", "statuses"), PAGES.values(), ids=PAGES)
async def test_hostile_requests_get_the_expected_status(
    local: Installation, arguments: tuple[Any, ...], options: dict[str, Any], statuses: set[int]
) -> None:
    async with others_unaffected(local):
        answer = await exchange(local, request(local, *arguments, **options))
        assert int(answer.split(b" ", 2)[1]) in statuses
        assert b"Traceback" not in answer
        if arguments[0].startswith("/chat/api/"):
            assert b"content-type: application/json" in answer.partition(b"\r\n\r\n")[0].lower()
        assert b"evil.example" not in answer.split(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "text",
    [
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"GET / HTTP/1.1\r\n no name: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
    ids=[
        "no HTTP",
        "only a method",
        "HTTP 9.9",
        "TLS",
        "negative length",
        "two lengths",
        "bad chunks",
        "a fold",
        "a NUL",
    ],
)
async def test_invalid_http_is_refused_or_disconnected(local: Installation, text: bytes) -> None:
    async with others_unaffected(local):
        answer = await exchange(local, text)
        assert not answer or answer.split(b" ", 2)[1] in (b"400", b"404", b"302")


INVALID_UPGRADES = {
    "no key": ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"],
    "a short key": ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"],
    "another version": [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 7",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ],
}


@pytest.mark.parametrize("headers", INVALID_UPGRADES.values(), ids=INVALID_UPGRADES)
async def test_an_invalid_upgrade_is_refused(local: Installation, headers: list[str]) -> None:
    async with others_unaffected(local):
        lines = [f"GET {SOCKETS[0]} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
        answer = await exchange(local, "\r\n".join(lines).encode())
        assert answer.split(b" ", 2)[1] in (b"400", b"426")


async def test_a_flood_of_requests_is_refused_and_others_are_served(local: Installation) -> None:
    flood = request(local, "/chat/api/rooms", "Cookie: channelbox_session=flood")
    async with others_unaffected(local):
        flooding = asyncio.gather(*(exchange(local, flood) for _ in range(200)))
        other = await exchange(local, request(local, "/chat/api/rooms", "Cookie: channelbox_session=other"))
        assert other.startswith(b"HTTP/1.1 200 ")
        answers = await flooding
    refused = [answer for answer in answers if b" 429 " in answer[:20]]
    assert {answer.split(b" ", 2)[1] for answer in answers} == {b"200", b"429"}
    for answer in refused:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nretry-after: " in head
        assert json.loads(body)["code"] == "too_fast"


async def test_incomplete_requests_do_not_delay_others(local: Installation) -> None:
    async with others_unaffected(local):
        host, port = local.url.removeprefix("http://").split(":")
        slow = [await asyncio.open_connection(host, int(port)) for _ in range(100)]
        for _, writer in slow:
            writer.write(b"GET /chat/ HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert (await exchange(local, request(local, "/healthz"))).endswith(b"ok\n")
        for _, writer in slow:
            writer.transport.abort()


async def test_history_serves_messages_as_json_with_nosniff(local: Installation) -> None:
    """Messages in the history are JSON, with a content type that no browser renders as a page."""
    text = f"<script>{os.urandom(4).hex()}</script>"
    async with others_unaffected(local), await local.enter(ROOM, origin=local.url) as charlie:
        await charlie.say(text)
        await charlie.wait_for(text)
        answer = await exchange(local, request(local, HISTORY))
        headers, _, body = answer.partition(b"\r\n\r\n")
        assert b"content-type: application/json" in headers.lower()
        assert b"x-content-type-options: nosniff" in headers.lower()
        assert text in [message["message"] for message in json.loads(body)["messages"]]
