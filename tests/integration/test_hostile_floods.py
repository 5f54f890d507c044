"""Clients that send too much or stop reading get errors or a close code, and do not affect other clients."""

import asyncio
import os
from typing import cast

import pytest
from tests.integration.hostile import (  # noqa: F401 - a fixture
    MESSAGE_MAX,
    ROOM,
    SOCKETS,
    others_unaffected,
    still_works,
    strict,
)
from tests.integration.local import Installation
from tests.realtime.serving import masked

from channelbox.realtime.errors import INVALID_FORMAT, Close, Code
from channelbox.realtime.frame_reader import CONTINUATION, PING, PONG, TEXT

pytestmark = pytest.mark.asyncio(loop_scope="module")

BURST = 60


async def test_each_of_200_messages_at_once_is_answered(local: Installation) -> None:
    async with others_unaffected(local), await local.enter(ROOM, origin=local.url) as charlie:
        mark = os.urandom(4).hex()
        ids = [f"{mark}-{n}" for n in range(200)]
        for id in ids:
            await charlie.say(id, id=id)

        def answered() -> set[str]:
            return {frame["id"] for frame in charlie.messages + charlie.errors}

        await charlie.until(lambda: answered() >= set(ids))
        stored = [frame["id"] for frame in charlie.messages if frame["id"].startswith(mark)]
        refused = {frame["id"]: frame for frame in charlie.errors}
        assert BURST <= len(stored) < 2 * BURST
        assert stored == [id for id in ids if id in stored]
        assert set(refused) == set(ids) - set(stored)
        assert {frame["code"] for frame in refused.values()} == {Code.TOO_FAST}
        assert all(0 < frame["retry_after"] < 60 for frame in refused.values())


async def test_each_of_200_malformed_frames_is_answered(local: Installation) -> None:
    async with others_unaffected(local), await local.enter(ROOM, origin=local.url) as charlie:
        for _ in range(200):
            await charlie.connection.send("{")
        await charlie.until(lambda: len(charlie.errors) == 200)
        assert {error["error"] for error in charlie.errors} == {INVALID_FORMAT}
        await still_works(charlie)


async def test_a_client_that_ignores_errors_is_disconnected(local: Installation) -> None:
    async with others_unaffected(local), await local.enter(ROOM, origin=local.url) as charlie:
        for _ in range(400):
            await charlie.connection.send("{")
        assert await charlie.closed() == Close.TOO_MUCH
        assert len(charlie.errors) < 400


async def test_200_requests_at_once_cause_few_dashboard_updates(local: Installation) -> None:
    async with (
        others_unaffected(local),
        await local.open("/ws/dashboard/", origin=local.url) as watcher,
        await local.open("/ws/dashboard/", origin=local.url) as charlie,
    ):
        await watcher.first(type="welcome")
        await charlie.first(type="welcome")
        for n in range(200):
            await charlie.connection.send("{" if n % 2 else "{}")
        await charlie.until(lambda: len(charlie.errors) == 100)
        await watcher.until(lambda: sum("data" in frame for frame in watcher.frames) >= 2)
        assert watcher.errors == []
        assert sum("data" in frame for frame in watcher.frames) < 50


# Fifteen messages take about a second. If a flood blocks a process, each of them takes ten.
ALL_RECEIVED_SECONDS = 45


@pytest.mark.parametrize(
    "piece",
    [masked(PONG), masked(PING), masked(CONTINUATION, first=0), masked(TEXT, b"{"), masked(3)],
    ids=["pongs", "pings", "empty fragments", "texts", "unknown opcodes"],
)
async def test_a_flood_of_frames_does_not_delay_other_clients(local: Installation, piece: bytes) -> None:
    """Several connections flood, so that both web processes are hit: a connection goes to either."""
    async with others_unaffected(local):
        flooding = [asyncio.create_task(flood(local, piece)) for _ in range(6)]
        async with await local.enter(ROOM, origin=local.url) as alice:
            async with asyncio.timeout(ALL_RECEIVED_SECONDS):
                for number in range(15):
                    await alice.say(text := f"{number} {os.urandom(4).hex()}")
                    await alice.wait_for(text)
            assert alice.errors == []
        for each in flooding:
            each.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)


async def flood(local: Installation, piece: bytes) -> None:
    """Send the same frame as fast as the server reads, reconnecting whenever the connection is closed."""
    while True:
        reader, writer = await local.handshake(SOCKETS[0])
        reading = asyncio.create_task(reader.read())
        try:
            writer.write(b"" if piece[0] & 0x0F else masked(TEXT, b"{", first=0))
            while not reading.done():
                writer.write(piece * 10_000)
                await writer.drain()
        except OSError:
            pass
        finally:
            reading.cancel()
            writer.transport.abort()


async def test_a_client_that_stops_reading_does_not_delay_others(local: Installation) -> None:
    async with others_unaffected(local):
        reader, writer = await local.handshake(SOCKETS[0])
        reader.set_exception(ConnectionError("not read"))
        cast("asyncio.Transport", writer.transport).pause_reading()
        async with await local.enter(ROOM, origin=local.url) as alice:
            for _ in range(20):
                await alice.say("x" * MESSAGE_MAX)
            await alice.until(lambda: alice.texts.count("x" * MESSAGE_MAX) >= 20)
        writer.transport.abort()
