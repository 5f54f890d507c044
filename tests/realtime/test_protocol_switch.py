"""Who comes over a fresh connection, and what becomes of it."""

import asyncio
from typing import Any

import pytest
from tests.realtime.serving import Room, Run, Served, served

from channelbox.realtime import protocol_switch
from channelbox.realtime.join_deadline import ENTER_SECONDS, deadline_of
from channelbox.realtime.join_steps import JoinSteps
from channelbox.realtime.protocol import FrameProtocol
from channelbox.realtime.protocol_switch import ProtocolSwitch

UPGRADE = (
    b"GET /ws/?after=3 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
PAGE = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"


class Site(Room):
    """A room, with a page beside it."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            assert (scope["path"], scope["query_string"]) == ("/ws/", b"after=3")
            assert (b"host", b"x") in scope["headers"]
            await super().__call__(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"page"})


async def opened(server: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.port)


async def head(reader: asyncio.StreamReader) -> bytes:
    return (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("pieces", "plain"),
    [
        ([UPGRADE], True),
        ([UPGRADE[:20], UPGRADE[20:]], False),
        ([UPGRADE.replace(b"Upgrade: websocket", b"UPGRADE:\twebsocket ")], True),
        ([UPGRADE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n")], False),
    ],
    ids=["whole", "in two pieces", "oddly spaced", "with a subprotocol"],
)
def test_a_websocket_is_let_in_however_it_asks(
    run: Run, pieces: list[bytes], plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr(protocol_switch, "HttpProtocol", None)  # uvicorn's is not needed

    async def scenario() -> None:
        async with served(Site()) as server:
            reader, writer = await opened(server)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.05)  # nothing tells when it was read: the next is to be a piece of its own
            assert await head(reader) == b"HTTP/1.1 101 Switching Protocols"
            await server.room.until(lambda: len(server.room.members) == 1)
            server.room.write(b"hi")
            assert await reader.readexactly(4) == b"\x81\x02hi"
            if plain:
                assert server.room.members[0]._reader is None, "a listener needs no parser"
            writer.write(b"\x89\x80\0\0\0\0")  # a ping
            assert await reader.readexactly(2) == b"\x8a\x00"
            assert server.server.server_state.connections == set(server.room.members)
            writer.close()

    run(scenario())


def test_a_page_and_then_a_websocket_over_one_connection(run: Run) -> None:
    """As a proxy does that keeps its connections."""

    async def scenario() -> None:
        async with served(Site()) as server:
            reader, writer = await opened(server)
            for _ in range(2):
                writer.write(PAGE)
                assert await head(reader) == b"HTTP/1.1 200 OK"
                assert await reader.readexactly(4) == b"page"
            writer.write(UPGRADE)
            assert await head(reader) == b"HTTP/1.1 101 Switching Protocols"
            writer.close()

    run(scenario())


def test_what_is_no_http_is_told_so(run: Run) -> None:
    async def scenario() -> None:
        async with served(Site()) as server:
            reader, writer = await opened(server)
            writer.write(b"\x16\x03\x01 TLS?\r\n\r\n")
            assert await head(reader) == b"HTTP/1.1 400 Bad Request"
            writer.close()

    run(scenario())


def test_connections_on_which_nothing_was_asked_hold_up_no_stop(run: Run) -> None:
    async def scenario() -> None:
        async with served(Site()) as server:
            connections = server.server.server_state.connections
            silent = [await opened(server) for _ in range(3)]
            while len(connections) < len(silent):
                await asyncio.sleep(0.01)
            assert {type(each) for each in connections} == {ProtocolSwitch}
            silent[0][1].close()
            while len(connections) == len(silent):
                await asyncio.sleep(0.01)
            silent[1][1].write(UPGRADE)
            await head(silent[1][0])
            assert {type(each) for each in connections} == {ProtocolSwitch, FrameProtocol}
        for reader, writer in silent[1:]:
            await reader.read()  # to its end
            writer.close()

    run(scenario())


def test_who_asks_for_a_websocket_is_answered_though_the_server_stops(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[object] = []
    monkeypatch.setattr(JoinSteps, "begin", lambda self, step: waiting.append(step))

    async def scenario() -> None:
        async with served(Site()) as server:
            reader, writer = await opened(server)
            writer.write(UPGRADE)
            while not waiting:
                await asyncio.sleep(0.01)
        assert await head(reader) == b"HTTP/1.1 101 Switching Protocols"
        writer.close()

    run(scenario())


def test_the_time_in_which_a_handshake_waits_is_part_of_its_deadline(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    class Late(Room):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
            waited.append(asyncio.get_running_loop().time() + ENTER_SECONDS - deadline_of(scope))
            await super().__call__(scope, receive, send)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(JoinSteps, "begin", lambda _, step: loop.call_later(0.2, step))
        async with served(Late()) as server:
            reader, writer = await opened(server)
            writer.write(UPGRADE)
            assert await head(reader) == b"HTTP/1.1 101 Switching Protocols"
            writer.close()

    run(scenario())
    assert waited[0] >= 0.19
