"""The layer across a Redis restart, and over several Redis hosts."""

import asyncio
from collections.abc import Callable

import pytest
from redis.exceptions import RedisError
from tests.realtime.receiving import assert_nothing_for, next_of
from tests.support.servers import RedisServer

from channelbox.realtime import redis_keys
from channelbox.realtime.layer import ChannelLayer


async def test_groups_and_channels_work_again_after_a_redis_restart(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    layer = ChannelLayer([server.url], capacity=2)
    kept, left, full = [await layer.new_channel() for _ in range(3)]
    await layer.group_add("g", kept)
    await layer.group_add("g", left)
    receiving = asyncio.ensure_future(layer.receive("jobs"))
    for _ in range(2):
        await layer.send(full, {"type": "unread"})
    server.kill()
    with pytest.raises(RedisError):
        await layer.group_send("g", {"type": "lost"})
    await layer.group_discard("g", left)
    joining = asyncio.ensure_future(layer.group_add("h", kept))
    server.start()
    await asyncio.wait_for(joining, 10)
    await layer.group_send("g", {"type": "found"})
    await layer.group_send("h", {"type": "joined"})
    assert [(await next_of(layer, kept))["type"] for _ in range(2)] == ["found", "joined"]
    await layer.send("jobs", {"type": "job"})
    assert (await asyncio.wait_for(receiving, 5))["type"] == "job"
    await assert_nothing_for(layer, left)
    await layer.close()


async def test_groups_and_channels_are_spread_over_several_hosts(
    new_redis: Callable[..., RedisServer], redis_server: RedisServer
) -> None:
    servers = [redis_server, new_redis()]
    layer = ChannelLayer([server.url for server in servers])
    channels = [await layer.new_channel() for _ in range(40)]
    for number, channel in enumerate(channels):
        await layer.group_add(f"g{number}", channel)
        await layer.group_send(f"g{number}", {"type": "group"})
        await layer.send(channel, {"type": "single"})
        await layer.send(f"jobs{number}", {"type": "job"})
    for number, channel in enumerate(channels):
        assert {(await next_of(layer, channel))["type"] for _ in range(2)} == {"group", "single"}
        assert (await next_of(layer, f"jobs{number}"))["type"] == "job"
    for server in servers:
        with server.client() as client:
            assert 5 < len(client.pubsub_channels(redis_keys.group("*"))) < 35
    await layer.close()
