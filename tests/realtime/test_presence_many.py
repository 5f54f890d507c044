"""Presence in very many rooms does not block the event loop."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.realtime.exchanges import Exchanges
from tests.realtime.presence_process import Process
from tests.support.servers import RedisServer
from tests.support.waiting import most_in_a_turn, until

from channelbox.realtime import presence, redis_keys
from channelbox.realtime.frames import json_frame

ROOMS = [f"room-{number}" for number in range(1000)]
MAX_ROOMS = 100  # in one turn of the loop
MAX_COMMANDS = 2 * MAX_ROOMS + 1  # in one exchange with Redis, which is packed and read in one turn of the loop


def rooms_written(server: RedisServer) -> int:
    """Return the number of rooms whose people are in Redis."""
    with server.client() as client, client.pipeline(transaction=False) as pipeline:
        for name in ROOMS:
            pipeline.exists(redis_keys.people(name))
        return sum(pipeline.execute())


@pytest.fixture
async def process(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Process]:
    """Return a process with one person in each room, all written to Redis."""
    monkeypatch.setattr(presence, "PUBLISH_SECONDS", 0.05)
    process = Process("one")
    await process.start()
    await asyncio.gather(*(process.enter("alice", room=name) for name in ROOMS))
    await until(lambda: rooms_written(redis_server) == len(ROOMS))
    yield process
    await process.stop()


async def test_lost_presence_is_written_again_in_bounded_exchanges(
    process: Process, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.flushdb()
    exchanges.clear()
    process.presence._restored()
    await until(lambda: rooms_written(redis_server) == len(ROOMS))
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_stopping_removes_people_of_many_rooms_in_bounded_exchanges(
    process: Process, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    exchanges.clear()
    await process.presence.stop()
    assert rooms_written(redis_server) == 0
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_presence_is_sent_to_a_limited_number_of_rooms_per_turn(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[dict[str, Any]] = []

    def record_frame(content: dict[str, Any]) -> bytes:
        frames.append(content)
        return json_frame(content)

    monkeypatch.setattr(presence, "json_frame", record_frame)
    for name in ROOMS:
        process.presence.joined(name, "bob")
    assert await most_in_a_turn(lambda: len(frames), len(ROOMS)) <= MAX_ROOMS
    assert all(frame["users"] == ["alice", "bob"] for frame in frames)
