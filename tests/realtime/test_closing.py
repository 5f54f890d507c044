"""A client sees the code of our Close, also while it is still sending; and what it sends wrong is no news."""

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

TRIES = 3
MIB = 1024 * 1024
MORE = masked(TEXT, b"x" * 1000) * 12_000  # what is on its way when the server closes


class Closing(Room):
    """Closes with 1003 for bytes, with 4008 for a text."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.members.append(scope["extensions"][EXTENSION])
        self.changed.set()
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.close", "code": 4008 if "text" in event else 1003})


def code_seen(port: int, data: bytes) -> int:
    """The close code that a client sees which sends everything before it reads anything."""
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
    ids=["1 MB", "3 MB", "in parts", "bytes", "a text", "opcode", "no mask", "no UTF-8", "its own", "a bad close"],
)
def test_the_code_is_seen_by_a_client_that_goes_on_sending(run: Run, first: bytes, code: int) -> None:
    async def scenario() -> None:
        async with served(Closing(), ws_max_size=64 * 1024) as server:
            for _ in range(TRIES):
                assert await asyncio.to_thread(code_seen, server.port, first + MORE) == code

    run(scenario())


def test_a_client_library_sees_that_its_message_is_too_big(run: Run) -> None:
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


def test_1012_is_seen_by_clients_that_go_on_sending(run: Run) -> None:
    async def scenario() -> None:
        async with served(Echo()) as server:
            clients = [asyncio.to_thread(code_seen, server.port, masked(PING) * 500_000) for _ in range(TRIES)]
            codes = asyncio.gather(*clients)
            await server.room.until(lambda: len(server.room.members) == TRIES)
            while any(member.transport.is_reading() for member in server.room.members):
                await asyncio.sleep(0)
            server.server.should_exit = True
            assert await codes == [1012] * TRIES

    run(scenario())


def test_what_came_before_a_close_is_answered_before_it(run: Run) -> None:
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


def test_a_close_is_answered_though_the_application_takes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_application_that_fails_is_told_by_1011(run: Run, caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_client_that_reads_nothing_after_our_close_is_not_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
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


WRONG = {
    "an opcode behind bytes": masked(BINARY, b"hi") + masked(3),
    "an opcode": masked(3),
    "no UTF-8": masked(TEXT, b"\xff"),
    "no UTF-8 behind a text": masked(TEXT, b"hi") + masked(TEXT, b"\xff"),
    "a bad close": masked(CLOSE, b"\xff"),
    "too big": masked(TEXT, b"x" * 100_000),
    "half a frame": masked(TEXT, b"x" * 100)[:50],
}


@on_uvloop
@pytest.mark.parametrize("frames", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "byte by byte"])
def test_wrong_frames_leave_nothing_in_the_journal(
    run: Run, frames: bytes, apart: bool, caplog: pytest.LogCaptureFixture
) -> None:
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
