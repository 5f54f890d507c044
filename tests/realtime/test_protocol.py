"""The WebSocket protocol, which writes pre-encoded frames, in a real uvicorn with real sockets on both event loops."""

import asyncio
import socket
import struct
from typing import Any

import pytest
from pytest_django import Settings
from tests.realtime.serving import Echo, RawClient, Room, Run, masked, served
from uvicorn.protocols.utils import ClientDisconnected
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from channelbox.realtime.counters import counters
from channelbox.realtime.protocol import EXTENSION
from channelbox.realtime.read_budget import SLICE_BYTES, SLICE_FRAMES
from channelbox.realtime.wire import MAX_QUEUED, SHORT_CLOSE_SECONDS


def test_frames_reach_every_member_interleaved_with_pongs(run: Run) -> None:
    async def scenario() -> None:
        async with served() as server:
            clients = [await server.client() for _ in range(5)]
            for number in range(100):
                server.room.write(b"%d" % number)
                pong = await clients[0].ping()
                assert [await client.recv() for client in clients] == [str(number)] * 5
                await pong

    run(scenario())


def test_a_slow_reader_is_disconnected_without_affecting_others(run: Run, settings: Settings) -> None:
    settings.CHANNELBOX_SLOW_READER_BYTES = 300_000

    async def scenario() -> None:
        before = counters.slow_closed
        async with served() as server:
            slow, quick = await server.silent_client(), await server.client()
            room = server.room
            payload = bytes(50_000).replace(b"\0", b"x")
            while not room.lost:
                room.write(payload)
                assert await quick.recv() == payload.decode()
            assert room.lost == [room.members[0]]
            assert counters.slow_closed == before + 1
            slow.close()

    run(scenario())


def test_a_lost_member_does_not_interrupt_a_fan_out(run: Run) -> None:
    async def scenario() -> None:
        async with served() as server:
            room = server.room
            for _ in range(10):
                gone, stays = await server.silent_client(), await server.client()
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                gone.close()  # a reset: the kernel reports it at the next write
                for number in range(20):
                    room.write(b"%d" % number)
                    assert await stays.recv() == str(number)
                await stays.close()
                await room.until(lambda: len(room.lost) == len(room.members))

    run(scenario())


def test_nothing_follows_a_close_frame(run: Run) -> None:
    async def scenario() -> None:
        async with served() as server:
            client = await server.client()
            server.room.write(b"before")
            await client.send("end this")
            assert await client.recv() == "before"
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4000
            leaving = await server.client()
            closing = asyncio.ensure_future(leaving.close())
            while server.room.members[-1] not in server.room.lost:
                server.room.write(b"x")
                await asyncio.sleep(0)
            await closing
            assert leaving.close_code == 1000

    run(scenario())


def test_a_flooding_client_is_read_little_and_receives_the_close(run: Run) -> None:
    async def scenario() -> None:
        async with served() as server:
            server.room.taking.clear()
            client = await server.client()
            (member,) = server.room.members
            flood = b"".join(_masked(b"%d" % number) for number in range(100_000))
            client.transport.write(flood)
            while member.transport.is_reading():
                await asyncio.sleep(0)
            assert len(member._queue) <= MAX_QUEUED + SLICE_FRAMES
            server.room.taking.set()
            async with asyncio.timeout(SHORT_CLOSE_SECONDS + 5):
                await client.wait_closed()
            assert client.close_code == 4000

    run(scenario())


def test_messages_sent_at_once_are_received_completely_in_order(run: Run, settings: Settings) -> None:
    """They fill many slices, one frame is longer than a slice, and the application receives them one by one."""
    settings.CHANNELBOX_RATE = settings.CHANNELBOX_RATE_BURST = settings.CHANNELBOX_RATE_BYTES = 10**9
    taken: list[str] = []

    class Taker(Room):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            self.members.append(scope["extensions"][EXTENSION])
            self.changed.set()
            while (event := await receive())["type"] == "websocket.receive":
                taken.append(event["text"])
                await asyncio.sleep(0)
                if event["text"] == "last":
                    await send({"type": "websocket.close", "code": 4000})

    async def scenario() -> None:
        taken.clear()
        texts = [*map(str, range(SLICE_BYTES // 2)), "long" * SLICE_BYTES, "last"]
        async with served(room=Taker()) as server:
            client = await server.client()
            client.transport.write(b"".join(_masked(text.encode()) for text in texts))
            await client.wait_closed()
            assert taken == texts

    run(scenario())


def _masked(payload: bytes) -> bytes:
    """Return a client's text frame, with a mask of zero."""
    size = len(payload)
    head = b"\x81" + (bytes([0x80 | size]) if size < 126 else b"\xff" + size.to_bytes(8, "big"))
    return head + bytes(4) + payload


async def _answered(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Return the status line of the answer, and the data after its head until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    rest = await reader.read()
    writer.close()
    return head.partition(b"\r\n")[0], rest


UPGRADE = (
    b"GET /?a=1 HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def test_data_sent_before_the_handshake_answer_is_read_later(run: Run) -> None:
    class Slow(Room):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
            self.members.append(scope["extensions"][EXTENSION])
            self.changed.set()
            await self.until(lambda: not self.members[0].transport.is_reading())  # until the early data is there
            await super().__call__(scope, receive, send)

    async def scenario() -> None:
        async with served(Slow()) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(UPGRADE)
            await server.room.until(lambda: bool(server.room.members))
            writer.write(_masked(b"too early"))
            while server.room.members[0].transport.is_reading():
                await asyncio.sleep(0)
            server.room.changed.set()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            assert await reader.readexactly(4) == b"\x88\x02" + (4000).to_bytes(2, "big")
            writer.close()

    run(scenario())


@pytest.mark.parametrize(
    ("right", "wrong", "status"),
    [
        (b"Version: 13", b"Version: 12", b"426 Upgrade Required"),
        (b"AAAA==", b"AAAA", b"400 Bad Request"),
        (b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Other: ", b"400 Bad Request"),
        (b"Host: x", b"Host: x\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", b"400 Bad Request"),
    ],
)
def test_an_invalid_handshake_is_refused_with_a_reason(run: Run, right: bytes, wrong: bytes, status: bytes) -> None:
    async def scenario() -> None:
        async with served() as server:
            answer, reason = await _answered(server.port, UPGRADE.replace(right, wrong, 1))
            assert answer == b"HTTP/1.1 " + status
            assert b"websocket" in reason.lower()
            assert not server.room.members

    run(scenario())


def test_a_handshake_with_too_many_headers_is_refused_and_closed(run: Run) -> None:
    async def scenario() -> None:
        async with served() as server:
            many = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 80) for number in range(200))
            status, reason = await _answered(server.port, UPGRADE.replace(b"Host: x\r\n", b"Host: x\r\n" + many))
            assert status == b"HTTP/1.1 431 Request Header Fields Too Large"
            assert b"128 headers" in reason
            assert not server.room.members

    run(scenario())


def test_an_application_can_refuse_or_fail_before_accepting(run: Run) -> None:
    class Refuses(Room):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
            await receive()
            if scope["query_string"] == b"a=1":
                raise ZeroDivisionError
            await send({"type": "websocket.close"})

    async def scenario() -> None:
        async with served(Refuses()) as server:
            assert (await _answered(server.port, UPGRADE))[0] == b"HTTP/1.1 500 Internal Server Error"
            assert (await _answered(server.port, UPGRADE.replace(b"a=1", b"a=2")))[0] == b"HTTP/1.1 403 Forbidden"

    run(scenario())


def test_an_application_can_answer_with_an_http_response(run: Run) -> None:
    class Answers(Room):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
            assert "websocket.http.response" in scope["extensions"]
            await receive()
            headers = [(b"content-type", b"application/json")]
            await send({"type": "websocket.http.response.start", "status": 451, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": b"{", "more_body": True})
            await send({"type": "websocket.http.response.body", "body": b"}"})
            assert (await receive())["type"] == "websocket.disconnect"
            with pytest.raises(ClientDisconnected):
                await send({"type": "websocket.accept"})

    async def scenario() -> None:
        async with served(Answers()) as server:
            status, body = await _answered(server.port, UPGRADE)
            assert status == b"HTTP/1.1 451 Unavailable For Legal Reasons"
            assert body == b"{}"

    run(scenario())


def test_a_pending_handshake_is_answered_with_503_at_shutdown(run: Run) -> None:
    class Slow(Room):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
            await receive()
            self.members.append(scope["extensions"][EXTENSION])
            self.changed.set()
            while (await receive())["type"] != "websocket.disconnect":
                pass

    async def scenario() -> None:
        async with served(Slow()) as server:
            answer = asyncio.create_task(_answered(server.port, UPGRADE))
            await server.room.until(lambda: bool(server.room.members))
            server.server.should_exit = True
            assert (await answer)[0] == b"HTTP/1.1 503 Service Unavailable"

    run(scenario())


def test_an_unread_pong_does_not_close_the_connection(run: Run, settings: Settings) -> None:
    """If a client sends more than is read, its pong waits behind the rest."""
    settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST = 40, 1  # 32 frames at once, 200 a second

    async def scenario() -> None:
        async with served(Echo(), ws_ping_interval=0.05, ws_ping_timeout=0.05) as server:
            client = await RawClient.upgraded(server.port)
            client.write(b"".join(masked(1, b"%d" % number) for number in range(150)))
            echoed = 0
            while echoed < 150:
                first, payload = await client.frame()
                if first == 0x81:
                    echoed += 1
                else:
                    assert first == 0x89, (first, payload)
            client.leave()

    run(scenario())


def test_closes_at_shutdown_are_spread_over_the_drain_time(run: Run, settings: Settings) -> None:
    settings.CHANNELBOX_DRAIN_SECONDS = 0.5

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with served() as server:
            clients = [await server.client() for _ in range(30)]

            async def closed(client: ClientConnection) -> float:
                await client.wait_closed()
                assert client.close_code == 1012
                return loop.time()

            start = loop.time()
            server.server.should_exit = True
            times = [time - start for time in await asyncio.gather(*map(closed, clients))]
            # 30 even draws: the chance that all fall into one half is one in 500 million.
            assert max(times) - min(times) > 0.2
            assert max(times) < 2

    run(scenario())


def test_a_client_that_ignores_pings_is_disconnected_despite_backlog(run: Run) -> None:
    async def scenario() -> None:
        async with served(ws_ping_interval=0.2, ws_ping_timeout=0.2) as server:
            silent = await server.silent_client()
            room = server.room
            for _ in range(30):
                room.write(bytes(100_000).replace(b"\0", b"x"))
            async with asyncio.timeout(5):
                await room.until(lambda: bool(room.lost))
            silent.close()

    run(scenario())
