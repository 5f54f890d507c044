"""The default layer keeps the contract of Channels, tested as strictly as channels_redis tests its own layer."""

import asyncio
import inspect
import random
from typing import Any

import pytest
from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer, get_channel_layer
from tests.realtime.receiving import assert_nothing_for, next_of
from tests.support.servers import RedisServer

from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.layer import ChannelLayer

# --- Single channels


async def test_the_redis_layer_is_the_default_layer() -> None:
    layer = get_channel_layer()
    assert isinstance(layer, ChannelLayer)
    assert isinstance(layer, BaseChannelLayer)
    assert layer.extensions == ["groups", "flush"]
    assert (layer.capacity, layer.expiry) == (1500, 10)
    assert all(inspect.iscoroutinefunction(getattr(layer, name)) for name in ("send", "receive", "group_send", "flush"))


async def test_a_channel_receives_what_is_sent_to_it(layer: ChannelLayer, elsewhere: ChannelLayer) -> None:
    channel = await layer.new_channel()
    for sender in (layer, elsewhere):
        await sender.send(channel, {"type": "test.message", "text": "Ahoy", "nested": [{"a": None}, 1.5, b"\x00"]})
        message = await next_of(layer, channel)
        assert message == {"type": "test.message", "text": "Ahoy", "nested": [{"a": None}, 1.5, b"\x00"]}


async def test_messages_keep_their_order(layer: ChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.send(channel, {"type": "1"})
    await layer.group_send("g", {"type": "2"})
    await layer.send(channel, {"type": "3"})
    assert [(await next_of(layer, channel))["type"] for _ in range(3)] == ["1", "2", "3"]


async def test_receive_waits_while_the_channel_is_empty(layer: ChannelLayer) -> None:
    channel = await layer.new_channel(prefix="waiting")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(channel), 0.2)


async def test_a_cancelled_receive_loses_no_message(layer: ChannelLayer) -> None:
    channel = await layer.new_channel()
    for number in range(20):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(layer.receive(channel), 0.001 * (number % 3))
        await layer.send(channel, {"type": "kept", "number": number})
        assert (await next_of(layer, channel))["number"] == number


async def test_channel_names_do_not_depend_on_the_random_seed(layer: ChannelLayer) -> None:
    random.seed(1)
    first = await layer.new_channel()
    random.seed(1)
    assert await layer.new_channel() != first


async def test_a_new_channel_has_the_requested_prefix(layer: ChannelLayer) -> None:
    assert (await layer.new_channel()).startswith("specific.")
    assert (await layer.new_channel("thing-")).startswith("thing-")


async def test_receive_rejects_a_channel_of_another_process(layer: ChannelLayer, elsewhere: ChannelLayer) -> None:
    channel = await layer.new_channel()
    with pytest.raises(RuntimeError, match="another process"):
        await elsewhere.receive(channel)


# --- Capacity and expiry


async def test_a_full_channel_rejects_senders_of_every_process(layer: ChannelLayer, elsewhere: ChannelLayer) -> None:
    channel = await layer.new_channel()
    for sender in (layer, elsewhere, elsewhere):
        await sender.send(channel, {"type": "fits"})
    for sender in (layer, elsewhere):
        with pytest.raises(ChannelFull):
            await sender.send(channel, {"type": "too much"})
    await next_of(layer, channel)
    async with asyncio.timeout(5):
        while True:  # Redis is updated within a moment
            try:
                await elsewhere.send(channel, {"type": "fits again"})
                break
            except ChannelFull:
                await asyncio.sleep(0.01)
    assert [(await next_of(layer, channel))["type"] for _ in range(3)] == ["fits", "fits", "fits again"]


async def test_a_full_channel_does_not_keep_group_messages_from_others(layer: ChannelLayer) -> None:
    full, reading = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("g", full)
    await layer.group_add("g", reading)
    before = counters.dropped
    for number in range(5):
        await layer.group_send("g", {"type": "m", "number": number})
        assert (await next_of(layer, reading))["number"] == number
    assert counters.dropped == before + 2
    assert [(await next_of(layer, full))["number"] for _ in range(3)] == [0, 1, 2]
    await assert_nothing_for(layer, full)


async def test_capacity_can_be_set_by_channel_name() -> None:
    layer = ChannelLayer(capacity=3, channel_capacity={"small.*": 1})
    channel = await layer.new_channel("small.")
    await layer.send(channel, {"type": "fits"})
    with pytest.raises(ChannelFull):
        await layer.send(channel, {"type": "too much"})
    await layer.send("small.common", {"type": "fits"})
    with pytest.raises(ChannelFull):
        await layer.send("small.common", {"type": "too much"})
    await layer.close()


async def test_expired_messages_are_dropped_and_free_capacity() -> None:
    layer = ChannelLayer(capacity=1, expiry=0.2)
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "old"})
    await layer.send("common", {"type": "old"})
    await asyncio.sleep(0.25)
    await layer.send("common", {"type": "new"})
    await layer.send(channel, {"type": "new"})
    assert (await next_of(layer, channel))["type"] == "new"
    assert (await next_of(layer, "common"))["type"] == "new"
    await layer.close()


async def test_sending_to_a_closed_channel_raises_no_error(layer: ChannelLayer, elsewhere: ChannelLayer) -> None:
    gone = str.__str__(await elsewhere.new_channel())
    await elsewhere.close()
    for _ in range(10):
        await layer.send(gone, {"type": "lost"})


# --- Names


@pytest.mark.parametrize("name", ["ü", "a b", "", "a" * 100, "a!b!c", 1, None, b"bytes"])
async def test_invalid_names_are_rejected(layer: ChannelLayer, name: Any) -> None:
    channel = await layer.new_channel()
    with pytest.raises(TypeError, match="name must be"):
        await layer.send(name, {"type": "m"})
    with pytest.raises(TypeError, match="name must be"):
        await layer.receive(name)
    with pytest.raises(TypeError, match="name must be"):
        await layer.group_add("g", name)
    for call in (layer.group_add, layer.group_discard):
        with pytest.raises(TypeError, match="name must be"):
            await call(name, channel)
    with pytest.raises(TypeError, match="name must be"):
        await layer.group_send(name, {"type": "m"})


# --- Groups


async def test_a_group_message_reaches_only_members(layer: ChannelLayer, elsewhere: ChannelLayer) -> None:
    inside, left, outside = [await layer.new_channel("same-prefix") for _ in range(3)]
    far = await elsewhere.new_channel()
    for where, channel in ((layer, inside), (layer, left), (elsewhere, far)):
        await where.group_add("g", channel)
    await layer.group_discard("g", left)
    for sender in (layer, elsewhere):
        await sender.group_send("g", {"type": "hello"})
        assert (await next_of(layer, inside))["type"] == "hello"
        assert (await next_of(elsewhere, far))["type"] == "hello"
    await assert_nothing_for(layer, left, outside, inside)


async def test_messages_sent_after_group_add_returns_are_received(layer: ChannelLayer, elsewhere: ChannelLayer) -> None:
    for number in range(100):
        channel = await layer.new_channel()
        await layer.group_add(f"g{number}", channel)
        await elsewhere.group_send(f"g{number}", {"type": "at once"})
        assert (await next_of(layer, channel))["type"] == "at once"


async def test_joining_a_group_repeatedly_delivers_messages_once(layer: ChannelLayer) -> None:
    channel = await layer.new_channel()
    await asyncio.gather(*(layer.group_add("g", channel) for _ in range(5)))
    await layer.group_send("g", {"type": "once"})
    assert (await next_of(layer, channel))["type"] == "once"
    await assert_nothing_for(layer, channel)
    await layer.group_discard("g", channel)
    await layer.group_send("g", {"type": "not at all"})
    await assert_nothing_for(layer, channel)


async def test_leaving_a_group_that_was_never_joined_raises_no_error(layer: ChannelLayer) -> None:
    await layer.group_discard("g", await layer.new_channel())


async def test_rapidly_leaving_and_joining_ends_in_the_group(layer: ChannelLayer) -> None:
    channel = await layer.new_channel()
    for _ in range(50):
        await layer.group_add("g", channel)
        await layer.group_discard("g", channel)
    await layer.group_add("g", channel)
    await layer.group_send("g", {"type": "hello"})
    assert (await next_of(layer, channel))["type"] == "hello"


async def test_a_group_uses_one_subscription_for_all_its_members(
    layer: ChannelLayer, redis_server: RedisServer
) -> None:
    channels = [await layer.new_channel() for _ in range(20)]
    for channel in channels:
        await layer.group_add("g", channel)
    with redis_server.client() as client:
        assert client.pubsub_numsub(redis_keys.group("g")) == [(redis_keys.group("g").encode(), 1)]
        for channel in channels:
            await layer.group_discard("g", channel)
        await Bus.current().unsubscribe("anything")
        await assert_nothing_for(layer)
        assert client.pubsub_numsub(redis_keys.group("g")) == [(redis_keys.group("g").encode(), 0)]


async def test_a_group_message_is_decoded_once_and_copied_for_consumers(
    layer: ChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    deserialize = layer._serializer.deserialize

    def reading(payload: bytes) -> Any:
        read.append(1)
        return deserialize(payload)

    monkeypatch.setattr(layer._serializer, "deserialize", reading)
    channels = [await layer.new_channel() for _ in range(5)]
    for channel in channels:
        await layer.group_add("g", channel)
    await layer.group_send("g", {"type": "m", "list": [{"a": 1}]})
    for channel in channels:
        message = await next_of(layer, channel)
        assert message == {"type": "m", "list": [{"a": 1}]}
        message["list"][0]["a"] = 2
    assert len(read) == 1


# --- Channels that any process may receive from


async def test_a_shared_channel_gives_each_message_to_one_receiver(
    layer: ChannelLayer, elsewhere: ChannelLayer
) -> None:
    layer.capacity = 100
    receivers = [asyncio.ensure_future(where.receive("jobs")) for where in (layer, elsewhere) for _ in range(10)]
    await asyncio.gather(*(layer.send("jobs", {"type": "job", "number": number}) for number in range(20)))
    done = await asyncio.wait_for(asyncio.gather(*receivers), 5)
    assert sorted(message["number"] for message in done) == list(range(20))


async def test_a_shared_channel_keeps_messages_until_they_are_received(
    layer: ChannelLayer, elsewhere: ChannelLayer
) -> None:
    for number in range(3):
        await layer.send("jobs", {"type": "job", "number": number})
    with pytest.raises(ChannelFull):
        await layer.send("jobs", {"type": "job", "number": 3})
    assert [(await next_of(elsewhere, "jobs"))["number"] for _ in range(3)] == [0, 1, 2]


async def test_a_shared_channel_loses_nothing_to_a_cancelled_receive(
    layer: ChannelLayer, elsewhere: ChannelLayer
) -> None:
    for number in range(20):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(layer.receive("jobs"), 0.002 * (number % 3))
        await elsewhere.send("jobs", {"type": "job", "number": number})
        assert (await next_of(elsewhere, "jobs"))["number"] == number


# --- Serializers


async def test_the_message_format_is_that_of_channels_redis(layer: ChannelLayer) -> None:
    message: dict[str, Any] = {"a": True, "b": None, "c": {"d": []}}
    assert layer.serialize(message) == b"\x83\xa1a\xc3\xa1b\xc0\xa1c\x81\xa1d\x90"
    assert layer.deserialize(b"\x83\xa1a\xc3\xa1b\xc0\xa1c\x81\xa1d\x90") == message


async def test_serializer_format_and_encryption_keys_are_used(redis_server: RedisServer) -> None:
    plain = ChannelLayer(serializer_format="json")
    secret = ChannelLayer(symmetric_encryption_keys=["a key"])
    assert plain.serialize({"a": 1}) == b'{"a": 1}'
    assert b"Ahoy" not in secret.serialize({"type": "m", "text": "Ahoy"})
    for layer in (plain, secret):
        channel = await layer.new_channel()
        await layer.send(channel, {"type": "m", "text": "Ahoy"})
        assert (await next_of(layer, channel))["text"] == "Ahoy"
        await layer.close()


async def test_undecodable_group_messages_are_ignored(layer: ChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await Bus.current().publish(redis_keys.group("g"), b"\xc1 no message")
    await layer.group_send("g", {"type": "after"})
    assert (await next_of(layer, channel))["type"] == "after"
