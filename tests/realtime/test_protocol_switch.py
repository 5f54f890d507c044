"""The choice between HTTP and WebSocket on a new connection."""

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
    """A room, and a page for other requests."""

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
def test_every_form_of_upgrade_request_is_accepted(
    run: Run, pieces: list[bytes], plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr(protocol_switch, "HttpProtocol", None)  # uvicorn's protocol is not needed

    async def scenario() -> None:
        async with served(Site()) as server:
            reader, writer = await opened(server)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.05)  # nothing shows when it was read, and pieces must be read separately
            assert await head(reader) == b"HTTP/1.1 101 Switching Protocols"
            await server.room.until(lambda: len(server.room.members) == 1)
            server.room.write(b"hi")
            assert await reader.readexactly(4) == b"\x81\x02hi"
            if plain:
                assert server.room.members[0]._reader is None, "a client that sends nothing needs no parser"
            writer.write(b"\x89\x80\0\0\0\0")  # a ping
            assert await reader.readexactly(2) == b"\x8a\x00"
            assert server.server.server_state.connections == set(server.room.members)
            writer.close()

    run(scenario())


def test_a_websocket_can_follow_pages_on_one_connection(run: Run) -> None:
    """A proxy that keeps its connections does this."""

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


def test_data_that_is_not_http_is_answered_with_400(run: Run) -> None:
    async def scenario() -> None:
        async with served(Site()) as server:
            reader, writer = await opened(server)
            writer.write(b"\x16\x03\x01 TLS?\r\n\r\n")
            assert await head(reader) == b"HTTP/1.1 400 Bad Request"
            writer.close()

    run(scenario())


def test_idle_connections_do_not_delay_shutdown(run: Run) -> None:
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


def test_a_waiting_upgrade_request_is_answered_at_shutdown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_deadline_of_a_handshake_includes_its_waiting_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
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
