"""Groups accept every valid channel name: those of other processes, and shared channels, which any process can read."""

import asyncio

import pytest
from redis.exceptions import RedisError
from tests.realtime.receiving import assert_nothing_for, next_of

from channelbox.realtime import redis_keys, remote_group_members
from channelbox.realtime.bus import Bus
from channelbox.realtime.layer import ChannelLayer
from channelbox.realtime.local_channels import inbox_of


async def test_a_channel_of_another_process_can_join_and_leave(layer: ChannelLayer, elsewhere: ChannelLayer) -> None:
    far = await elsewhere.new_channel()
    await layer.group_add("g", far)
    for sender in (layer, elsewhere):
        await sender.group_send("g", {"type": "hello"})
        assert (await next_of(elsewhere, far))["type"] == "hello"
    await layer.group_discard("g", far)
    await layer.group_send("g", {"type": "gone"})
    await assert_nothing_for(elsewhere, far)


async def test_a_channel_added_by_several_processes_is_in_the_group_once(
    layer: ChannelLayer, elsewhere: ChannelLayer
) -> None:
    far = await elsewhere.new_channel()
    await asyncio.gather(*(where.group_add("g", far) for where in (layer, elsewhere, layer)))
    await layer.group_send("g", {"type": "once"})
    assert (await next_of(elsewhere, far))["type"] == "once"
    await assert_nothing_for(elsewhere, far)
    await layer.group_discard("g", far)
    await elsewhere.group_send("g", {"type": "gone"})
    await assert_nothing_for(elsewhere, far)


async def test_a_shared_channel_can_join_and_leave(layer: ChannelLayer, elsewhere: ChannelLayer) -> None:
    near = await layer.new_channel()
    await layer.group_add("g", near)
    for where in (layer, elsewhere):
        await where.group_add("g", "common")
    await elsewhere.group_send("g", {"type": "hello"})
    assert (await next_of(layer, near))["type"] == "hello"
    assert (await next_of(layer, "common"))["type"] == "hello"
    for _ in range(5):  # above its capacity: dropped for it, and no error for the sender
        await layer.group_send("g", {"type": "full"})
    assert [(await next_of(elsewhere, "common"))["type"] for _ in range(3)] == ["full"] * 3
    await layer.group_discard("g", "common")
    await layer.group_send("g", {"type": "gone"})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(elsewhere.receive("common"), 0.1)


async def test_flush_removes_shared_channels_from_groups(layer: ChannelLayer) -> None:
    await layer.group_add("g", "common")
    await layer.flush()
    await layer.group_send("g", {"type": "gone"})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive("common"), 0.1)


async def test_a_channel_without_a_receiver_can_join_without_error(
    layer: ChannelLayer, elsewhere: ChannelLayer
) -> None:
    gone = str.__str__(await elsewhere.new_channel())
    await elsewhere.close()
    for channel in (gone, "made.up!channel", "short!c"):
        await layer.group_add("g", channel)
        await layer.group_send("g", {"type": "lost"})
        await layer.group_discard("g", channel)


async def test_group_add_fails_if_the_process_of_a_channel_is_silent(
    layer: ChannelLayer, elsewhere: ChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_group_members, "ANSWER_SECONDS", 0.2)
    silent = f"specific.{'0' * 16}!channel"
    bus = Bus()
    await bus.subscribe(redis_keys.inbox(inbox_of(silent)), lambda payload: None)
    with pytest.raises(RedisError, match="did not answer"):
        await layer.group_add("g", silent)
    await bus.stop()
