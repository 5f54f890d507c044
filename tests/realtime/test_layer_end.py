"""Channels, event loops and layers leave nothing behind when they end."""

import asyncio
import gc
from collections.abc import Callable

import pytest
import uvloop
from asgiref.sync import async_to_sync, sync_to_async
from tests.realtime.receiving import assert_nothing_for, next_of
from tests.support.servers import RedisServer
from tests.support.waiting import until

from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.layer import ChannelLayer


async def test_a_channel_ends_when_its_name_is_garbage_collected(
    layer: ChannelLayer, redis_server: RedisServer
) -> None:
    """Channels does not call disconnect() when a handler of a layer message fails: nothing else shows the end."""
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.send(channel, {"type": "unread"})
    await assert_nothing_for(layer)
    local = layer._local()
    before = len(local.mailboxes)
    del channel
    gc.collect()
    await assert_nothing_for(layer)
    assert len(local.mailboxes) < before
    assert "g" not in local.groups
    with redis_server.client() as client:
        assert client.pubsub_numsub(redis_keys.group("g")) == [(redis_keys.group("g").encode(), 0)]
        await until(lambda: client.hgetall(redis_keys.unread(local.inbox)) == {})


async def test_flush_removes_messages_and_groups(layer: ChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.send("jobs", {"type": "job"})
    await layer.send(channel, {"type": "m"})
    await assert_nothing_for(layer)
    await layer.flush()
    await layer.group_send("g", {"type": "m"})
    await assert_nothing_for(layer, channel, "jobs")


async def test_a_closed_layer_has_no_subscriptions_and_can_be_reused(
    layer: ChannelLayer, redis_server: RedisServer
) -> None:
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.close()
    bus = Bus.current()
    await bus.subscribe("fence", lambda _: None)
    with redis_server.client() as client:
        assert sorted(client.pubsub_channels()) == sorted(
            name.encode() for name in ("fence", redis_keys.probe(redis_keys.process_name()))
        )
    await bus.unsubscribe("fence")
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "again"})
    assert (await next_of(layer, channel))["type"] == "again"


@pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_layer_can_be_used_from_sync_code(
    redis_server: RedisServer, loops: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Each call has an event loop of its own, and leaves neither a connection nor a warning behind."""
    with redis_server.client() as client:
        before = len(client.client_list())
    layer = ChannelLayer()
    with asyncio.Runner(loop_factory=loops) as runner:
        channel = runner.run(layer.new_channel())
        runner.run(layer.group_add("g", channel))
        for number in range(3):
            async_to_sync(layer.send)(channel, {"type": f"{number}"})
        async_to_sync(layer.group_send)("g", {"type": "group"})
        received = [runner.run(layer.receive(channel))["type"] for _ in range(4)]
    assert received == ["0", "1", "2", "group"]
    assert not any(loop.is_closed() for loop in Bus._buses)
    with redis_server.client() as client:
        assert len(client.client_list()) == before


async def test_the_layer_can_be_used_from_a_thread_of_a_running_loop(layer: ChannelLayer) -> None:
    channel = await layer.new_channel()

    def send_to_group() -> None:
        async_to_sync(layer.group_add)("g", channel)
        async_to_sync(layer.group_send)("g", {"type": "from a thread"})

    await sync_to_async(send_to_group)()
    assert (await next_of(layer, channel))["type"] == "from a thread"
