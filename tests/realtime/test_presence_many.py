"""Who is in very many rooms: telling it does not hold up the event loop."""

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


def written(server: RedisServer) -> int:
    """Return of how many rooms Redis has the people."""
    with server.client() as client, client.pipeline(transaction=False) as pipeline:
        for name in ROOMS:
            pipeline.exists(redis_keys.people(name))
        return sum(pipeline.execute())


@pytest.fixture
async def process(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Process]:
    """A process that has told of somebody in each room."""
    monkeypatch.setattr(presence, "PUBLISH_SECONDS", 0.05)
    process = Process("one")
    await process.start()
    await asyncio.gather(*(process.enter("alice", room=name) for name in ROOMS))
    await until(lambda: written(redis_server) == len(ROOMS))
    yield process
    await process.stop()


async def test_what_redis_has_lost_is_told_again_in_bounded_exchanges(
    process: Process, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.flushdb()
    exchanges.clear()
    process.presence._restored()
    await until(lambda: written(redis_server) == len(ROOMS))
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_stopping_takes_the_people_of_many_rooms_out_in_bounded_exchanges(
    process: Process, exchanges: Exchanges, redis_server: RedisServer
) -> None:
    exchanges.clear()
    await process.presence.stop()
    assert written(redis_server) == 0
    exchanges.assert_bounded(MAX_COMMANDS)


async def test_few_rooms_are_told_of_in_one_turn(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[dict[str, Any]] = []

    def counted(content: dict[str, Any]) -> bytes:
        frames.append(content)
        return json_frame(content)

    monkeypatch.setattr(presence, "json_frame", counted)
    for name in ROOMS:
        process.presence.joined(name, "bob")
    assert await most_in_a_turn(lambda: len(frames), len(ROOMS)) <= MAX_ROOMS
    assert all(frame["users"] == ["alice", "bob"] for frame in frames)
