"""Every request is answered with a status, over a real connection, however odd, large or slow it is."""

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
    """An echo, with a page beside it that reads its request's body and says how long it was."""

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


def instead(old: bytes, new: bytes) -> bytes:
    assert old in UPGRADE
    return UPGRADE.replace(old, new)


def beside(header: bytes, request: bytes = UPGRADE) -> bytes:
    return request.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n")


ANSWERS = {
    "a body": (beside(b"Content-Length: 5") + b"hello", 400),
    "a body of nothing": (beside(b"Content-Length: 0"), 101),
    "a body in chunks": (beside(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", 400),
    "another version": (instead(b"Version: 13", b"Version: 12"), 426),
    "another method": (instead(b"GET", b"POST"), 405),
    "HTTP/1.0": (instead(b"HTTP/1.1", b"HTTP/1.0"), 426),
    "HTTP/3.7": (instead(b"HTTP/1.1", b"HTTP/3.7"), 400),
    "a bad key": (instead(b"AAAA==", b"AAAA"), 400),
    "two keys": (beside(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), 400),
    "no host": (instead(b"Host: x\r\n", b""), 400),
    "a folded header": (beside(b"X: a\r\n b"), 400),
    "a blank before the colon": (beside(b"X : a"), 400),
    "a NUL": (beside(b"X: a\0b"), 400),
    "scheme and host": (instead(b"GET /ws", b"GET http://x/ws"), 101),
    "no path": (instead(b"GET /ws/?after=3", b"GET *"), 400),
    "a blank in the path": (instead(b"GET /ws", b"GET /w s"), 400),
    "subprotocols": (beside(b"Sec-WebSocket-Protocol: chat, v2"), 101),
    "a target too long": (instead(b"/ws/", b"/" + LONG), 414),
    "a header too long": (beside(b"X: " + LONG), 431),
    "too many headers": (beside(b"\r\n".join([b"X: y"] * MAX_HEADERS)), 431),
    "100 KB": (beside(b"\r\n".join([b"X: " + b"y" * 1000] * 100)), 431),
    "3 MB": (beside(b"\r\n".join([b"X: " + b"y" * 8000] * 400)), 431),
    "headers without an end": (UPGRADE[:-2] + b"X: " + b"y" * 2 * MAX_HEAD_BYTES, 431),
    "a target without an end": (b"GET /" + LONG * 20, 414),
    "a page with a target too long": (PAGE.replace(b"/page", b"/" + LONG), 414),
    "a page with a header too long": (beside(b"X: " + LONG, PAGE), 431),
    "a page with too many headers": (beside(b"\r\n".join([b"X: y"] * MAX_HEADERS), PAGE), 431),
    "a page with 3 MB": (beside(b"\r\n".join([b"X: " + b"y" * 8000] * 400), PAGE), 431),
    "a page": (PAGE, 200),
    "a page with the longest header": (beside(b"X: " + b"y" * (MAX_LINE_BYTES - 3), PAGE), 200),
    "what is no HTTP": (b"\x16\x03\x01 TLS?\r\n\r\n", 400),
    "another upgrade": (beside(b"Connection: Upgrade\r\nUpgrade: h2c", PAGE), 200),
}


@on_uvloop
@pytest.mark.parametrize(("request_", "status"), ANSWERS.values(), ids=ANSWERS)
def test_a_request_is_answered_with_its_status(run: Run, request_: bytes, status: int) -> None:
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
                assert await client.ended(), "the reason, and then the end: no reset"
            client.leave()

    run(scenario())


@pytest.mark.parametrize("size", [1, 7, 100])
def test_requests_in_pieces_are_answered(run: Run, size: int) -> None:
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
def test_frames_right_behind_the_request_are_taken(run: Run, odd: bool) -> None:
    async def scenario() -> None:
        async with served(Site()) as server:
            client = await RawClient.opened(server.port)
            client.write((beside(b"Sec-WebSocket-Protocol: chat") if odd else UPGRADE) + masked(1, b"early"))
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
            assert await client.frame() == (0x81, b"early")
            client.leave()

    run(scenario())


@on_uvloop
@pytest.mark.parametrize(
    "part",
    [UPGRADE[:-2], UPGRADE[:3], PAGE[:-1], PAGE[:-4].replace(b"GET", b"POST") + b"\r\nContent-Length: 9\r\n\r\nhalf"],
    ids=["no end", "three letters", "a page", "half a body"],
)
def test_a_request_that_is_never_complete_is_told_so(run: Run, part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_SECONDS", 0.1)

    async def scenario() -> None:
        async with served(Site()) as server:
            client = await RawClient.opened(server.port)
            client.write(part)
            assert (await client.head()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            await client.ended()
            client.leave()

    run(scenario())


def test_what_follows_an_upgrade_to_something_else_is_no_request(run: Run) -> None:
    """Its body is passed over by the parser, and would be taken for the next request."""

    async def scenario() -> None:
        async with served(Site()) as server:
            client = await RawClient.opened(server.port)
            body = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
            header = b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d" % len(body)
            client.write(beside(header, PAGE))
            await client.head()
            client.write(body)
            assert b"HTTP/1.1" not in await client.ended()
            client.leave()

    run(scenario())


def test_a_websocket_asked_for_too_early_ends_behind_the_answer_before_it(run: Run) -> None:
    async def scenario() -> None:
        async with served(Site()) as server:
            client = await RawClient.opened(server.port)
            client.write(PAGE + UPGRADE)
            assert (await client.head()).startswith(b"HTTP/1.1 200 OK")
            assert b"HTTP/1.1 101" not in await client.ended()
            client.leave()

    run(scenario())


class SlowSite(Site):
    """Its pages wait until they are told to go on, and remember what became of them."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = asyncio.Semaphore(0), asyncio.Event()
        self.told: list[str] = []  # to each request, after its body
        self.sent = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        self.begun.release()
        hears = asyncio.create_task(receive())
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        self.sent += 1
        self.told.append((await hears)["type"])


@pytest.mark.parametrize("requests", [1, 2, 20])
def test_a_request_whose_client_has_left_ends_in_peace_also_when_others_wait_behind_it(
    run: Run, requests: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Django gives its database connection back after the answer: one that raised kept it for good."""

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
            site.go_on.set()
            async with asyncio.timeout(10):
                while server.server.server_state.tasks:
                    await asyncio.sleep(0.01)
            assert (site.sent, site.told) == (1, ["http.disconnect"])  # what waited behind it is not begun
        assert not caplog.records

    run(scenario())


@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_request_that_is_never_complete_waits_for_the_answers_before_it(
    run: Run, before: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those are given, and the connection is closed behind them."""
    monkeypatch.setattr(http_protocol, "REQUEST_SECONDS", 0.1)

    async def scenario() -> None:
        site = SlowSite()
        async with served(site) as server:
            client = await RawClient.opened(server.port)
            client.write(PAGE * before + beside(b"Content-Length: 5", PAGE.replace(b"GET", b"POST")) + b"he")
            await asyncio.wait_for(site.begun.acquire(), 10)
            await asyncio.sleep(0.5)  # past the deadline; nothing is to be heard of it
            site.go_on.set()
            answer = await asyncio.wait_for(client.ended(), 10)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"HTTP/1.1") == before
            client.leave()
        assert not caplog.records

    run(scenario())


def test_of_many_requests_at_once_so_many_are_answered(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """The others are not kept: a client could fill the memory with them. It asks again on another connection."""

    async def scenario() -> None:
        site = SlowSite()
        async with served(site) as server:
            client = await RawClient.opened(server.port)
            client.write(PAGE * 5000)
            await asyncio.wait_for(site.begun.acquire(), 10)
            site.go_on.set()
            answers = await asyncio.wait_for(client.ended(), 30)
            assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"HTTP/1.1") == http_protocol.MAX_PIPELINED + 1
            client.leave()
        assert not caplog.records

    run(scenario())


class LargeSite(Site):
    """Its page is larger than what the sockets of both sides hold, and is sent in pieces."""

    PIECE, PIECES = b"x" * 65_536, 500

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(self.PIECES):
            await send({"type": "http.response.body", "body": self.PIECE, "more_body": number + 1 < self.PIECES})


def test_who_does_not_take_its_answer_is_cut_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request keeps its database connection until its answer is written."""
    monkeypatch.setattr(http_protocol, "WRITE_SECONDS", 0.3)

    async def scenario() -> None:
        async with served(LargeSite()) as server:
            reading = await RawClient.opened(server.port)
            silent = socket.create_connection(("127.0.0.1", server.port))
            silent.sendall(PAGE)
            reading.write(beside(b"Connection: close", PAGE))
            got = 0
            while piece := await asyncio.wait_for(reading.reader.read(1 << 20), 10):
                got += len(piece)
                await asyncio.sleep(0.02)  # slower than it could, and longer in all than WRITE_SECONDS
            assert got > len(LargeSite.PIECE) * LargeSite.PIECES
            async with asyncio.timeout(10):
                while server.server.server_state.tasks:
                    await asyncio.sleep(0.01)
            silent.close()
            reading.leave()

    run(scenario())


class LargePageBeside(Site):
    """Its page waits in the server's memory where it is not read, and is less than a WebSocket may leave unread."""

    BODY = b"x" * (3 * 1024 * 1024)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await super().__call__(scope, receive, send)
            return
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.BODY})


def test_a_websocket_behind_an_answer_that_is_not_taken_yet_stays(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
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
            await asyncio.sleep(0.6)  # past the time; nothing is to be heard of it
            assert not server.room.members[0].transport.is_closing()
            client.close()

    run(scenario())


def test_odd_requests_leave_nothing_in_the_journal(run: Run, caplog: pytest.LogCaptureFixture) -> None:
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


async def test_uvicorn_has_the_names_that_are_used() -> None:
    http_protocol.check_uvicorn()


async def test_a_name_that_uvicorn_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(http_protocol.HttpToolsProtocol, "_should_upgrade")
    with pytest.raises(RuntimeError, match=r"lacks HttpToolsProtocol._should_upgrade"):
        http_protocol.check_uvicorn()
