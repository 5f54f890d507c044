"""A client receives the close code even while it is still sending, and invalid frames log no warnings."""

import asyncio
import logging
import socket
from typing import Any

import pytest
from tests.realtime.serving import FIN, UPGRADE, Echo, RawClient, Room, Run, masked, on_uvloop, served
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from channelbox.realtime import wire
from channelbox.realtime.frame_reader import BINARY, CLOSE, CONTINUATION, PING, TEXT
from channelbox.realtime.protocol import EXTENSION

ATTEMPTS = 3
MIB = 1024 * 1024
MORE = masked(TEXT, b"x" * 1000) * 12_000  # in transit when the server closes


class Closing(Room):
    """An application that closes with 1003 for binary messages, and with 4008 for text."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.members.append(scope["extensions"][EXTENSION])
        self.changed.set()
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.close", "code": 4008 if "text" in event else 1003})


def code_seen(port: int, data: bytes) -> int:
    """Return the close code that a client receives if it sends everything before it reads anything."""
    with socket.create_connection(("127.0.0.1", port), 20) as client, client.makefile("rb") as answer:
        client.sendall(UPGRADE)
        while answer.readline() != b"\r\n":
            pass
        client.sendall(data)
        while True:
            first, size = answer.read(2)
            payload = answer.read(int.from_bytes(answer.read(2), "big") if size == 126 else size)
            if first == FIN | CLOSE:
                return int.from_bytes(payload[:2], "big")


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (masked(TEXT, b"x" * MIB), 1009),
        (masked(TEXT, b"x" * 3 * MIB), 1009),
        (masked(TEXT, b"x" * 60_000, first=0) + masked(CONTINUATION, b"x" * 60_000), 1009),
        (masked(BINARY, b"hi"), 1003),
        (masked(TEXT, b"hi"), 4008),
        (masked(3), 1002),
        (b"\x81\x02hi", 1002),
        (masked(TEXT, b"\xff"), 1007),
        (masked(CLOSE, b"\x13\x87"), 4999),
        (masked(CLOSE, b"\x03"), 1002),
    ],
    ids=["1 MB", "3 MB", "fragments", "binary", "text", "opcode", "unmasked", "not UTF-8", "own close", "bad close"],
)
def test_a_client_that_keeps_sending_receives_the_close_code(run: Run, first: bytes, code: int) -> None:
    async def scenario() -> None:
        async with served(Closing(), ws_max_size=64 * 1024) as server:
            for _ in range(ATTEMPTS):
                assert await asyncio.to_thread(code_seen, server.port, first + MORE) == code

    run(scenario())


def test_a_client_library_receives_1009_for_a_message_too_big(run: Run) -> None:
    async def scenario() -> None:
        async with (
            served(Closing(), ws_max_size=64 * 1024) as server,
            connect(f"ws://127.0.0.1:{server.port}/", compression=None, ping_interval=None) as client,
        ):
            with pytest.raises(ConnectionClosed) as closed:
                await client.send("x" * 3 * MIB)
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009

    run(scenario())


def test_clients_that_keep_sending_receive_1012_at_shutdown(run: Run) -> None:
    async def scenario() -> None:
        async with served(Echo()) as server:
            clients = [asyncio.to_thread(code_seen, server.port, masked(PING) * 500_000) for _ in range(ATTEMPTS)]
            codes = asyncio.gather(*clients)
            await server.room.until(lambda: len(server.room.members) == ATTEMPTS)
            while any(member.transport.is_reading() for member in server.room.members):
                await asyncio.sleep(0)
            server.server.should_exit = True
            assert await codes == [1012] * ATTEMPTS

    run(scenario())


def test_messages_before_a_close_are_answered_before_it(run: Run) -> None:
    class Slow(Echo):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
            async def slowly() -> Any:
                event = await receive()
                for _ in range(10):
                    await asyncio.sleep(0)
                return event

            await super().__call__(scope, slowly, send)

    async def scenario() -> None:
        async with served(Slow()) as server:
            client = await RawClient.upgraded(server.port)
            client.write(b"".join(masked(TEXT, b"%d" % number) for number in range(100)) + masked(CLOSE, b"\x03\xe8"))
            for number in range(100):
                assert await client.frame() == (FIN | TEXT, b"%d" % number)
            assert await client.close_code() == 1000
            assert await client.ended() == b""

    run(scenario())


def test_a_close_is_answered_while_the_application_does_not_receive(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SHORT_CLOSE_SECONDS", 0.1)

    async def scenario() -> None:
        room = Room()
        room.taking.clear()
        async with served(room) as server:
            client = await RawClient.upgraded(server.port)
            client.write(masked(TEXT, b"hi") + masked(CLOSE, b"\x03\xe8"))
            assert await client.close_code() == 1000
            assert await client.ended() == b""
            room.taking.set()

    run(scenario())


def test_an_application_error_closes_with_1011_and_is_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Room):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            raise ZeroDivisionError

    async def scenario() -> None:
        async with served(Failing()) as server:
            client = await RawClient.upgraded(server.port)
            client.write(masked(TEXT, b"hi"))
            assert await client.close_code() == 1011
            client.write(masked(CLOSE, b"\x03\xf3"))
            assert await client.ended() == b""

    run(scenario())
    assert [record.exc_info is not None for record in caplog.records if record.levelno >= logging.ERROR] == [True]


def test_a_client_that_does_not_read_the_close_is_disconnected(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SHORT_CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(wire, "CLOSE_SECONDS", 0.1)

    async def scenario() -> None:
        async with served() as server:
            silent = await server.silent_client()
            server.room.write(b"x" * 3 * MIB)
            silent.sendall(masked(TEXT, b"end this"))
            await server.room.until(lambda: bool(server.room.lost))
            silent.close()

    run(scenario())


INVALID = {
    "an unknown opcode after binary": masked(BINARY, b"hi") + masked(3),
    "an unknown opcode": masked(3),
    "not UTF-8": masked(TEXT, b"\xff"),
    "not UTF-8, after text": masked(TEXT, b"hi") + masked(TEXT, b"\xff"),
    "an invalid close": masked(CLOSE, b"\xff"),
    "too big": masked(TEXT, b"x" * 100_000),
    "half a frame": masked(TEXT, b"x" * 100)[:50],
}


@on_uvloop
@pytest.mark.parametrize("frames", INVALID.values(), ids=INVALID)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "byte by byte"])
def test_invalid_frames_log_no_warnings(run: Run, frames: bytes, apart: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with served(Closing(), ws_max_size=64 * 1024) as server:
            client = await RawClient.upgraded(server.port)
            pieces = [frames[at : at + 1] for at in range(min(200, len(frames)))] if apart else [frames]
            for piece in pieces:
                client.write(piece)
                await asyncio.sleep(0)
            if len(frames) == 50:
                client.writer.write_eof()
            else:
                await client.close_code()
                client.leave()
            while server.server.server_state.connections:
                await asyncio.sleep(0)
            client.leave()

    run(scenario())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
