"""HTTP over real connections: every request is answered with a status, however malformed, large or slow it is."""

import asyncio
import json
import logging
import socket
from typing import Any

import pytest
from tests.realtime.serving import UPGRADE, Echo, RawClient, Run, masked, on_uvloop, served

from channelbox.realtime import http_protocol
from channelbox.realtime.handshake import MAX_HEAD_BYTES, MAX_HEADERS, MAX_LINE_BYTES

PAGE = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = b"x" * MAX_LINE_BYTES


class Site(Echo):
    """An echo for WebSockets, and a page that reads its request's body and answers with its size."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await super().__call__(scope, receive, send)
            return
        size, more = 0, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            size, more = size + len(event["body"]), event["more_body"]
        body = json.dumps({"size": size}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


def replaced(old: bytes, new: bytes) -> bytes:
    assert old in UPGRADE
    return UPGRADE.replace(old, new)


def with_header(header: bytes, request: bytes = UPGRADE) -> bytes:
    return request.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n")


ANSWERS = {
    "a body": (with_header(b"Content-Length: 5") + b"hello", 400),
    "an empty body": (with_header(b"Content-Length: 0"), 101),
    "a chunked body": (with_header(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", 400),
    "another version": (replaced(b"Version: 13", b"Version: 12"), 426),
    "another method": (replaced(b"GET", b"POST"), 405),
    "HTTP/1.0": (replaced(b"HTTP/1.1", b"HTTP/1.0"), 426),
    "HTTP/3.7": (replaced(b"HTTP/1.1", b"HTTP/3.7"), 400),
    "a bad key": (replaced(b"AAAA==", b"AAAA"), 400),
    "two keys": (with_header(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), 400),
    "no host": (replaced(b"Host: x\r\n", b""), 400),
    "a folded header": (with_header(b"X: a\r\n b"), 400),
    "a space before the colon": (with_header(b"X : a"), 400),
    "a NUL": (with_header(b"X: a\0b"), 400),
    "an absolute target": (replaced(b"GET /ws", b"GET http://x/ws"), 101),
    "a target without a path": (replaced(b"GET /ws/?after=3", b"GET *"), 400),
    "a space in the path": (replaced(b"GET /ws", b"GET /w s"), 400),
    "subprotocols": (with_header(b"Sec-WebSocket-Protocol: chat, v2"), 101),
    "a target too long": (replaced(b"/ws/", b"/" + LONG), 414),
    "a header too long": (with_header(b"X: " + LONG), 431),
    "too many headers": (with_header(b"\r\n".join([b"X: y"] * MAX_HEADERS)), 431),
    "100 KB of headers": (with_header(b"\r\n".join([b"X: " + b"y" * 1000] * 100)), 431),
    "3 MB of headers": (with_header(b"\r\n".join([b"X: " + b"y" * 8000] * 400)), 431),
    "headers without an end": (UPGRADE[:-2] + b"X: " + b"y" * 2 * MAX_HEAD_BYTES, 431),
    "a target without an end": (b"GET /" + LONG * 20, 414),
    "a page with a target too long": (PAGE.replace(b"/page", b"/" + LONG), 414),
    "a page with a header too long": (with_header(b"X: " + LONG, PAGE), 431),
    "a page with too many headers": (with_header(b"\r\n".join([b"X: y"] * MAX_HEADERS), PAGE), 431),
    "a page with 3 MB of headers": (with_header(b"\r\n".join([b"X: " + b"y" * 8000] * 400), PAGE), 431),
    "a page": (PAGE, 200),
    "a page with the longest header": (with_header(b"X: " + b"y" * (MAX_LINE_BYTES - 3), PAGE), 200),
    "not HTTP": (b"\x16\x03\x01 TLS?\r\n\r\n", 400),
    "an upgrade to h2c": (with_header(b"Connection: Upgrade\r\nUpgrade: h2c", PAGE), 200),
}


@on_uvloop
@pytest.mark.parametrize(("request_", "status"), ANSWERS.values(), ids=ANSWERS)
def test_every_request_is_answered_with_its_status(run: Run, request_: bytes, status: int) -> None:
    async def scenario() -> None:
        async with served(Site()) as server:
            client = await RawClient.opened(server.port)
            client.write(request_)
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert (b"\r\nUpgrade: websocket\r\n" in head) == (status in (101, 426))
            assert (b"\r\nSec-WebSocket-Version: 13\r\n" in head) == (status == 426)
            assert (b"\r\nAllow: GET\r\n" in head) == (status == 405)
            if status >= 400:
                assert b"\r\nConnection: close" in head
                assert await client.ended(), "the reason, and then the end without a reset"
            client.leave()

    run(scenario())


@pytest.mark.parametrize("size", [1, 7, 100])
def test_requests_sent_in_pieces_are_answered(run: Run, size: int) -> None:
    async def scenario() -> None:
        async with served(Site()) as server:
            client = await RawClient.opened(server.port)
            for request, line in ((PAGE, b"HTTP/1.1 200 OK"), (UPGRADE, b"HTTP/1.1 101 Switching Protocols")):
                for at in range(0, len(request), size):
                    client.write(request[at : at + size])
                    await asyncio.sleep(0)
                assert (await client.head()).startswith(line)
                if request is PAGE:
                    await client.reader.readexactly(len('{"size": 0}'))
            client.leave()

    run(scenario())


@pytest.mark.parametrize("odd", [False, True], ids=["plain", "with a subprotocol"])
def test_frames_sent_together_with_the_upgrade_are_read(run: Run, odd: bool) -> None:
    async def scenario() -> None:
        async with served(Site()) as server:
            client = await RawClient.opened(server.port)
            client.write((with_header(b"Sec-WebSocket-Protocol: chat") if odd else UPGRADE) + masked(1, b"early"))
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
            assert await client.frame() == (0x81, b"early")
            client.leave()

    run(scenario())


@on_uvloop
@pytest.mark.parametrize(
    "part",
    [UPGRADE[:-2], UPGRADE[:3], PAGE[:-1], PAGE[:-4].replace(b"GET", b"POST") + b"\r\nContent-Length: 9\r\n\r\nhalf"],
    ids=["no end of headers", "three letters", "a page", "half a body"],
)
def test_an_incomplete_request_is_answered_with_408(run: Run, part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_SECONDS", 0.1)

    async def scenario() -> None:
        async with served(Site()) as server:
            client = await RawClient.opened(server.port)
            client.write(part)
            assert (await client.head()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            await client.ended()
            client.leave()

    run(scenario())


def test_the_body_of_an_unsupported_upgrade_is_not_a_request(run: Run) -> None:
    """The parser skips its body, which would then be read as the next request."""

    async def scenario() -> None:
        async with served(Site()) as server:
            client = await RawClient.opened(server.port)
            body = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
            header = b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d" % len(body)
            client.write(with_header(header, PAGE))
            await client.head()
            client.write(body)
            assert b"HTTP/1.1" not in await client.ended()
            client.leave()

    run(scenario())


def test_an_upgrade_pipelined_behind_a_request_is_not_accepted(run: Run) -> None:
    async def scenario() -> None:
        async with served(Site()) as server:
            client = await RawClient.opened(server.port)
            client.write(PAGE + UPGRADE)
            assert (await client.head()).startswith(b"HTTP/1.1 200 OK")
            assert b"HTTP/1.1 101" not in await client.ended()
            client.leave()

    run(scenario())


class SlowSite(Site):
    """A site whose pages wait for `proceed` before they answer, and record the event that ends each request."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.proceed = asyncio.Semaphore(0), asyncio.Event()
        self.event_types: list[str] = []  # the type of the event after each request's body
        self.sent = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        self.begun.release()
        next_event = asyncio.create_task(receive())
        await self.proceed.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        self.sent += 1
        self.event_types.append((await next_event)["type"])


@pytest.mark.parametrize("requests", [1, 2, 20])
def test_a_request_ends_without_error_after_its_client_left(
    run: Run, requests: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Django returns its database connection after the answer: a request that raised would keep it forever."""

    async def scenario() -> None:
        site = SlowSite()
        async with served(site) as server:
            client = await RawClient.opened(server.port)
            client.write(PAGE * requests)
            await asyncio.wait_for(site.begun.acquire(), 10)
            client.leave()
            async with asyncio.timeout(10):
                while server.server.server_state.connections:
                    await asyncio.sleep(0.01)
            site.proceed.set()
            async with asyncio.timeout(10):
                while server.server.server_state.tasks:
                    await asyncio.sleep(0.01)
            assert (site.sent, site.event_types) == (1, ["http.disconnect"])  # the requests behind it are not started
        assert not caplog.records

    run(scenario())


@pytest.mark.parametrize("before", [1, 2, 3])
def test_an_incomplete_request_is_closed_after_earlier_answers(
    run: Run, before: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The earlier requests are answered, and then the connection is closed."""
    monkeypatch.setattr(http_protocol, "REQUEST_SECONDS", 0.1)

    async def scenario() -> None:
        site = SlowSite()
        async with served(site) as server:
            client = await RawClient.opened(server.port)
            client.write(PAGE * before + with_header(b"Content-Length: 5", PAGE.replace(b"GET", b"POST")) + b"he")
            await asyncio.wait_for(site.begun.acquire(), 10)
            await asyncio.sleep(0.5)  # past the deadline: nothing must happen
            site.proceed.set()
            answer = await asyncio.wait_for(client.ended(), 10)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"HTTP/1.1") == before
            client.leave()
        assert not caplog.records

    run(scenario())


def test_the_number_of_pipelined_requests_is_limited(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """The others are dropped: a client could fill the memory with them. It sends them again on another connection."""

    async def scenario() -> None:
        site = SlowSite()
        async with served(site) as server:
            client = await RawClient.opened(server.port)
            client.write(PAGE * 5000)
            await asyncio.wait_for(site.begun.acquire(), 10)
            site.proceed.set()
            answers = await asyncio.wait_for(client.ended(), 30)
            assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"HTTP/1.1") == http_protocol.MAX_PIPELINED + 1
            client.leave()
        assert not caplog.records

    run(scenario())


class LargeSite(Site):
    """A site whose page is larger than what the sockets of both sides hold, and is sent in pieces."""

    PIECE, PIECES = b"x" * 65_536, 500

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(self.PIECES):
            await send({"type": "http.response.body", "body": self.PIECE, "more_body": number + 1 < self.PIECES})


def test_a_client_that_does_not_read_its_answer_is_disconnected(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request keeps its database connection until its answer is written."""
    monkeypatch.setattr(http_protocol, "WRITE_SECONDS", 2.0)  # a busy machine may keep the reader away for a second

    async def scenario() -> None:
        async with served(LargeSite()) as server:
            reading = await RawClient.opened(server.port)
            silent = socket.create_connection(("127.0.0.1", server.port))
            silent.sendall(PAGE)
            reading.write(with_header(b"Connection: close", PAGE))
            got = 0
            while piece := await asyncio.wait_for(reading.reader.read(1 << 20), 10):
                got += len(piece)
                await asyncio.sleep(0.03)  # slowly, so that it takes longer in total than WRITE_SECONDS
            assert got > len(LargeSite.PIECE) * LargeSite.PIECES
            async with asyncio.timeout(10):
                while server.server.server_state.tasks:
                    await asyncio.sleep(0.01)
            silent.close()
            reading.leave()

    run(scenario())


class LargePageBeside(Site):
    """A site whose page waits in memory until it is read, and is smaller than what a WebSocket may leave unread."""

    BODY = b"x" * (3 * 1024 * 1024)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await super().__call__(scope, receive, send)
            return
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.BODY})


def test_a_websocket_behind_an_unread_answer_stays_open(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "WRITE_SECONDS", 0.3)

    async def scenario() -> None:
        async with served(LargePageBeside()) as server:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(PAGE)
            async with asyncio.timeout(10):
                while not server.server.server_state.total_requests:
                    await asyncio.sleep(0.001)
            client.sendall(UPGRADE)
            await asyncio.wait_for(server.room.until(lambda: bool(server.room.members)), 10)
            await asyncio.sleep(0.6)  # past the timeout: nothing must happen
            assert not server.room.members[0].transport.is_closing()
            client.close()

    run(scenario())


def test_malformed_requests_log_no_warnings(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with served(Site()) as server:
            for request, _ in ANSWERS.values():
                client = await RawClient.opened(server.port)
                client.write(request)
                await client.head()
                client.leave()

    run(scenario())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_uvicorn_has_all_names_that_the_protocol_uses() -> None:
    http_protocol.check_uvicorn()


async def test_a_name_missing_in_uvicorn_raises_runtime_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(http_protocol.HttpToolsProtocol, "_should_upgrade")
    with pytest.raises(RuntimeError, match=r"lacks HttpToolsProtocol._should_upgrade"):
        http_protocol.check_uvicorn()
