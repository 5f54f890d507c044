"""A flooding client is read in slices and at a limited rate, and no other client waits.

No time is measured: the tests count how much of a flood is read while others are answered, and in one turn.
"""

import asyncio
import itertools
import os
import socket
import time
from typing import Any

import pytest
from pytest_django import Settings
from tests.realtime.serving import FIN, UPGRADE, Echo, RawClient, Run, masked, served

from channelbox.realtime.frame_reader import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameReader
from channelbox.realtime.read_budget import SLICE_BYTES, SLICE_FRAMES
from channelbox.realtime.token_bucket import Bucket
from channelbox.realtime.turn_scheduler import (
    SELDOM_FRAMES,
    TURN_BYTES,
    TURN_FRAMES,
    count_read,
    fits_turn,
    may_read,
    wait_to_read,
)
from channelbox.realtime.wire import MAX_SKIPPED_BYTES, SELDOM_SECONDS

KIB = 1024
BUFFERS = 4096 * KIB  # what the sockets of both sides and one read hold
FLOODS = {
    "texts": masked(TEXT, b"hi"),
    "long texts": masked(TEXT, b"x" * 4000),
    "the longest texts": masked(TEXT, b"x" * 60_000),
    "binary": masked(BINARY, b"hi"),
    "pings": masked(PING),
    "long pings": masked(PING, b"x" * 125),
    "pongs": masked(PONG),
    "empty fragments": masked(CONTINUATION, first=0),
    "fragments": masked(CONTINUATION, b"x" * 10, first=0),
}
BROKEN = {
    "data after a close": masked(CLOSE, b"\x03\xe8") + masked(TEXT, b"hi") * 1000,
    **{f"unknown opcode {number}": masked(number) for number in (*range(3, 8), *range(11, 16))},
    "reserved bits": masked(TEXT, first=FIN | 0x40),
    "random bytes": os.urandom(5000),
    "unmasked": b"\x81\x02hi",
}


class Flood:
    """A client that sends one piece repeatedly, as fast as it is accepted, and reads nothing."""

    def __init__(self, port: int, piece: bytes, address: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), source_address=(address, 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
        self.socket.setblocking(False)
        self.piece = piece * (64 * KIB // len(piece) + 1)
        self.left = b""
        self.taken = 0

    async def begin(self, first: bytes) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.socket, UPGRADE)
        assert b" 101 " in await loop.sock_recv(self.socket, 64 * KIB)
        await loop.sock_sendall(self.socket, first)

    def push(self) -> None:
        """Send as much as is accepted without waiting."""
        try:
            while True:
                self.left = self.left or self.piece
                count = self.socket.send(self.left)
                self.taken += count
                self.left = self.left[count:]
                if count == 0 or self.left:
                    return
        except OSError:  # it would have to wait, or is closed
            pass


@pytest.mark.parametrize("piece", FLOODS.values(), ids=FLOODS)
def test_reading_of_a_flood_is_bounded_while_others_are_served(run: Run, piece: bytes, settings: Settings) -> None:
    settings.CHANNELBOX_RATE_BYTES = 16 * KIB  # at once: 128 KiB, which is two of the largest frames

    async def scenario() -> None:
        async with served(Echo(), ws_max_size=64 * KIB) as server:
            flood = Flood(server.port, piece)
            await flood.begin(b"" if piece[0] & 0x0F else masked(TEXT, b"begun", first=0))
            quiet = await RawClient.upgraded(server.port)
            for number in range(200):
                flood.push()
                quiet.write(masked(TEXT, b"%d" % number) if number < 50 else masked(PONG))
                if number < 50:
                    assert await quiet.frame() == (0x81, b"%d" % number)
                await asyncio.sleep(0)
                assert flood.taken < BUFFERS + 3 * 128 * KIB, f"in {number} rounds"
            flood.socket.close()
            quiet.leave()

    run(scenario())


def test_data_after_a_refused_request_is_read_up_to_a_limit(run: Run) -> None:
    async def scenario() -> None:
        async with served(Echo()) as server:
            flood = Flood(server.port, b"x")
            await asyncio.get_running_loop().sock_sendall(flood.socket, b"\x16\x03\r\n\r\n")
            quiet = await RawClient.upgraded(server.port)
            for number in range(200):
                flood.push()
                quiet.write(masked(TEXT, b"%d" % number))
                assert await quiet.frame() == (0x81, b"%d" % number)
            assert flood.taken < BUFFERS + MAX_SKIPPED_BYTES
            flood.socket.close()
            quiet.leave()

    run(scenario())


@pytest.mark.parametrize("piece", BROKEN.values(), ids=BROKEN)
def test_a_flood_of_invalid_frames_is_skipped_and_not_parsed(
    run: Run, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of it is read and discarded, so that the client receives the server's Close."""
    parsed = record_slices(monkeypatch)

    async def scenario() -> None:
        async with served(Echo()) as server:
            flood = Flood(server.port, piece)
            await flood.begin(b"")
            quiet = await RawClient.upgraded(server.port)
            for number in range(200):
                flood.push()
                quiet.write(masked(TEXT, b"%d" % number))
                assert await quiet.frame() == (0x81, b"%d" % number)
            assert sum(parsed) < 2 * SLICE_FRAMES + 200
            assert flood.taken < BUFFERS + MAX_SKIPPED_BYTES
            flood.socket.close()
            quiet.leave()

    run(scenario())


def record_slices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the number of frames of each slice is appended."""
    original = FrameReader.read
    parsed: list[int] = []

    def read(reader: FrameReader, max_frames: int, max_bytes: int) -> tuple[list[Any], int, int]:
        events, frames, size = original(reader, max_frames, max_bytes)
        assert frames <= SLICE_FRAMES
        assert size < SLICE_BYTES + 200
        parsed.append(frames)
        return events, frames, size

    monkeypatch.setattr(FrameReader, "read", read)
    return parsed


class Busy:
    """A connection that has more to read than fits into a turn."""

    def __init__(self, log: list[Any], turns: int) -> None:
        self.log = log
        self.turns = turns

    def take_turn(self) -> None:
        self.log.append(self)
        count_read(asyncio.get_running_loop(), TURN_FRAMES, 0)
        self.turns -= 1
        if self.turns:
            wait_to_read(asyncio.get_running_loop(), self)


def test_each_event_loop_turn_reads_one_slice_of_one_connection(run: Run) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        log: list[Any] = []
        busy = [Busy(log, 5) for _ in range(3)]
        for each in busy:
            wait_to_read(loop, each)
        while busy[-1].turns:
            await asyncio.sleep(0)
            log.append(None)
        assert [each for each in log if each] == busy * 5, "they take turns"
        assert all(before is None or after is None for before, after in itertools.pairwise(log))

    run(scenario())


@pytest.mark.parametrize("stalled", [False, True])
def test_many_clients_are_read_in_slices_quiet_ones_first(
    run: Run, monkeypatch: pytest.MonkeyPatch, stalled: bool
) -> None:
    """Each client sends little. `stalled`: as after a long turn, no connection was read for a while."""
    crowd_size, each = 100, 3
    parsed = record_slices(monkeypatch)
    in_turn: list[int] = []
    echo = Echo()

    async def scenario() -> None:
        async with served(echo) as server:
            crowd = [await RawClient.upgraded(server.port) for _ in range(crowd_size)]
            quiet = await RawClient.upgraded(server.port)
            for client in (*crowd, quiet):
                client.write(masked(TEXT, b"first"))
                assert await client.frame() == (0x81, b"first")
            loop = asyncio.get_running_loop()
            for member in server.room.members:
                member._read_turn = count_read(loop, 0, 0)
                member._read_at = time.monotonic() + (-2 if stalled else 60)  # however slow the machine is
            quiet_member = server.room.members[-1]
            quiet_member._read_turn, quiet_member._read_at = -2, time.monotonic() - 2 * SELDOM_SECONDS
            over = False

            def record_turn() -> None:
                in_turn.append(sum(parsed))
                parsed.clear()
                if not over:
                    loop.call_soon(record_turn)

            parsed.clear()
            record_turn()
            for client in crowd:
                client.write(masked(TEXT, b"again") * each)
            quiet.write(masked(TEXT, b"little") * 2)
            for client in crowd:
                for _ in range(each):
                    assert await client.frame() == (0x81, b"again")
            over = True
            await asyncio.sleep(0)
            assert sum(in_turn) == crowd_size * each + 2
            assert max(in_turn) <= TURN_FRAMES + 2 * SLICE_FRAMES
            texts = [event["text"] for event in echo.events if event["type"] == "websocket.receive"]
            assert texts.index("little") < len(texts) / 2
            for client in (*crowd, quiet):
                client.leave()

    run(scenario())


def test_a_crowd_of_quiet_clients_is_read_in_portions(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd_size = 300
    parsed = record_slices(monkeypatch)
    in_turn: list[int] = []

    async def scenario() -> None:
        async with served(Echo()) as server:
            crowd = [await RawClient.upgraded(server.port) for _ in range(crowd_size)]
            loop, over = asyncio.get_running_loop(), False

            def record_turn() -> None:
                in_turn.append(sum(parsed))
                parsed.clear()
                if not over:
                    loop.call_soon(record_turn)

            record_turn()
            for client in crowd:
                client.write(masked(TEXT, b"first") * 2)
            for client in crowd:
                assert [await client.frame() for _ in range(2)] == [(0x81, b"first")] * 2
            over = True
            await asyncio.sleep(0)
            assert sum(in_turn) == 2 * crowd_size
            assert max(in_turn) <= SELDOM_FRAMES + TURN_FRAMES + 2 * SLICE_FRAMES
            for client in crowd:
                client.leave()

    run(scenario())


def test_reading_does_not_reduce_the_write_limit_of_a_turn(run: Run) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        count_read(loop, TURN_FRAMES, 0)
        assert not may_read(loop)
        assert fits_turn(loop, 1)
        assert not fits_turn(loop, TURN_BYTES)
        assert not may_read(loop)
        await asyncio.sleep(0)
        assert may_read(loop)
        assert fits_turn(loop, TURN_BYTES)

    run(scenario())


def test_a_failing_turn_does_not_affect_other_turns(run: Run) -> None:
    class Failing(Busy):
        def take_turn(self) -> None:
            raise ZeroDivisionError

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        log: list[Any] = []
        wait_to_read(loop, Failing(log, 1))
        wait_to_read(loop, other := Busy(log, 2))
        while other.turns:
            await asyncio.sleep(0)

    run(scenario())


def test_a_frame_sent_byte_by_byte_is_throttled(run: Run, settings: Settings) -> None:
    """Each read costs a turn of the loop, however little there is to read."""
    settings.CHANNELBOX_RATE_BYTES = 16 * KIB

    async def scenario() -> None:
        async with served(Echo(), ws_max_size=4 * KIB) as server:
            client = await RawClient.upgraded(server.port)
            (member,) = server.room.members
            frame = masked(TEXT, b"x" * 4000)
            for at in range(len(frame)):
                client.write(frame[at : at + 1])
                await asyncio.sleep(0)
                if not member.transport.is_reading():
                    break
            assert at < len(frame) - 1
            client.write(frame[at + 1 :])
            assert await client.frame() == (0x81, b"x" * 4000)
            client.leave()

    run(scenario())


def test_throttled_frames_are_read_later_completely_and_in_order(run: Run, settings: Settings) -> None:
    settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST = 1000, 10  # frames: 5,000 a second, 50 at once

    async def scenario() -> None:
        async with served(Echo()) as server:
            client = await RawClient.upgraded(server.port)
            client.write(b"".join(masked(TEXT, b"%d" % number) + masked(PONG) for number in range(200)))
            for number in range(200):
                assert await client.frame() == (0x81, b"%d" % number)
            client.leave()

    run(scenario())


def test_the_rate_limit_holds_with_a_small_burst(run: Run, settings: Settings) -> None:
    """Reading is never faster; how much slower it is depends on the machine."""
    settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST = 100, 1  # frames: 500 a second

    async def scenario() -> None:
        async with served(Echo()) as server:
            client = await RawClient.upgraded(server.port)
            start = asyncio.get_running_loop().time()
            client.write(masked(PING) * 200)
            for _ in range(200):
                assert await client.frame() == (0x8A, b"")
            assert asyncio.get_running_loop().time() - start > (200 - 3 * SLICE_FRAMES) / 500
            client.leave()

    run(scenario())


def test_a_client_within_its_limits_is_never_throttled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends as fast as `welcome` allows, and in the largest frames that are accepted."""
    waits: list[float] = []
    original = Bucket.wait

    def wait(bucket: Bucket) -> float:
        waits.append(original(bucket))
        return waits[-1]

    monkeypatch.setattr(Bucket, "wait", wait)

    async def scenario() -> None:
        async with served(Echo(), ws_max_size=64 * KIB) as server:
            client = await RawClient.upgraded(server.port)
            payloads = [b"x" * 64 * KIB] * 2 + [b"hi"] * 60
            for payload in payloads:
                client.write(masked(TEXT, payload))
            for payload in payloads:
                assert await client.frame() == (0x81, payload)
            client.leave()

    run(scenario())
    assert waits
    assert not any(waits)
