"""The default layer: the contract of Channels, as strictly as channels_redis tests its own."""

import asyncio
import inspect
import random
from typing import Any

import pytest
from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer, get_channel_layer
from tests.realtime.receiving import next_of, nothing_for
from tests.support.servers import RedisServer

from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.layer import ChannelLayer

# --- Single channels


async def test_it_is_the_default_layer_of_the_settings() -> None:
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


async def test_a_channel_without_messages_waits(layer: ChannelLayer) -> None:
    channel = await layer.new_channel(prefix="waiting")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(channel), 0.2)


async def test_a_receive_that_was_cancelled_loses_nothing(layer: ChannelLayer) -> None:
    channel = await layer.new_channel()
    for number in range(20):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(layer.receive(channel), 0.001 * (number % 3))
        await layer.send(channel, {"type": "kept", "number": number})
        assert (await next_of(layer, channel))["number"] == number


async def test_names_do_not_follow_the_random_seed(layer: ChannelLayer) -> None:
    random.seed(1)
    first = await layer.new_channel()
    random.seed(1)
    assert await layer.new_channel() != first


async def test_a_new_channel_has_the_prefix_asked_for(layer: ChannelLayer) -> None:
    assert (await layer.new_channel()).startswith("specific.")
    assert (await layer.new_channel("thing-")).startswith("thing-")


async def test_a_channel_of_another_process_cannot_be_received_from(
    layer: ChannelLayer, elsewhere: ChannelLayer
) -> None:
    channel = await layer.new_channel()
    with pytest.raises(RuntimeError, match="another process"):
        await elsewhere.receive(channel)


# --- Capacity and expiry


async def test_a_full_channel_refuses_its_senders_wherever_they_are(
    layer: ChannelLayer, elsewhere: ChannelLayer
) -> None:
    channel = await layer.new_channel()
    for sender in (layer, elsewhere, elsewhere):
        await sender.send(channel, {"type": "fits"})
    for sender in (layer, elsewhere):
        with pytest.raises(ChannelFull):
            await sender.send(channel, {"type": "too much"})
    await next_of(layer, channel)
    async with asyncio.timeout(5):
        while True:  # Redis is told within a moment
            try:
                await elsewhere.send(channel, {"type": "fits again"})
                break
            except ChannelFull:
                await asyncio.sleep(0.01)
    assert [(await next_of(layer, channel))["type"] for _ in range(3)] == ["fits", "fits", "fits again"]


async def test_a_full_channel_misses_what_its_group_gets_and_nobody_else_does(layer: ChannelLayer) -> None:
    full, reading = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("g", full)
    await layer.group_add("g", reading)
    before = counters.dropped
    for number in range(5):
        await layer.group_send("g", {"type": "m", "number": number})
        assert (await next_of(layer, reading))["number"] == number
    assert counters.dropped == before + 2
    assert [(await next_of(layer, full))["number"] for _ in range(3)] == [0, 1, 2]
    await nothing_for(layer, full)


async def test_capacity_may_differ_by_name() -> None:
    layer = ChannelLayer(capacity=3, channel_capacity={"small.*": 1})
    channel = await layer.new_channel("small.")
    await layer.send(channel, {"type": "fits"})
    with pytest.raises(ChannelFull):
        await layer.send(channel, {"type": "too much"})
    await layer.send("small.common", {"type": "fits"})
    with pytest.raises(ChannelFull):
        await layer.send("small.common", {"type": "too much"})
    await layer.close()


async def test_what_has_expired_is_given_to_nobody_and_makes_room() -> None:
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


async def test_sending_to_a_channel_that_is_gone_is_no_error(layer: ChannelLayer, elsewhere: ChannelLayer) -> None:
    gone = str.__str__(await elsewhere.new_channel())
    await elsewhere.close()
    for _ in range(10):
        await layer.send(gone, {"type": "lost"})


# --- Names


@pytest.mark.parametrize("name", ["ü", "a b", "", "a" * 100, "a!b!c", 1, None, b"bytes"])
async def test_invalid_names_are_refused(layer: ChannelLayer, name: Any) -> None:
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


async def test_a_group_reaches_its_members_and_nobody_else(layer: ChannelLayer, elsewhere: ChannelLayer) -> None:
    inside, left, outside = [await layer.new_channel("same-prefix") for _ in range(3)]
    far = await elsewhere.new_channel()
    for where, channel in ((layer, inside), (layer, left), (elsewhere, far)):
        await where.group_add("g", channel)
    await layer.group_discard("g", left)
    for sender in (layer, elsewhere):
        await sender.group_send("g", {"type": "hello"})
        assert (await next_of(layer, inside))["type"] == "hello"
        assert (await next_of(elsewhere, far))["type"] == "hello"
    await nothing_for(layer, left, outside, inside)


async def test_group_add_returns_when_the_group_is_heard(layer: ChannelLayer, elsewhere: ChannelLayer) -> None:
    for number in range(100):
        channel = await layer.new_channel()
        await layer.group_add(f"g{number}", channel)
        await elsewhere.group_send(f"g{number}", {"type": "at once"})
        assert (await next_of(layer, channel))["type"] == "at once"


async def test_joining_twice_is_joining_once(layer: ChannelLayer) -> None:
    channel = await layer.new_channel()
    await asyncio.gather(*(layer.group_add("g", channel) for _ in range(5)))
    await layer.group_send("g", {"type": "once"})
    assert (await next_of(layer, channel))["type"] == "once"
    await nothing_for(layer, channel)
    await layer.group_discard("g", channel)
    await layer.group_send("g", {"type": "not at all"})
    await nothing_for(layer, channel)


async def test_leaving_a_group_that_one_never_joined_is_no_error(layer: ChannelLayer) -> None:
    await layer.group_discard("g", await layer.new_channel())


async def test_leaving_and_joining_in_quick_succession_ends_joined(layer: ChannelLayer) -> None:
    channel = await layer.new_channel()
    for _ in range(50):
        await layer.group_add("g", channel)
        await layer.group_discard("g", channel)
    await layer.group_add("g", channel)
    await layer.group_send("g", {"type": "hello"})
    assert (await next_of(layer, channel))["type"] == "hello"


async def test_one_group_is_one_subscription_whatever_its_members(
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
        await nothing_for(layer)
        assert client.pubsub_numsub(redis_keys.group("g")) == [(redis_keys.group("g").encode(), 0)]


async def test_a_group_message_is_read_once_and_belongs_to_each_consumer(
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


async def test_a_common_channel_gives_each_message_to_one_receiver(
    layer: ChannelLayer, elsewhere: ChannelLayer
) -> None:
    layer.capacity = 100
    receivers = [asyncio.ensure_future(where.receive("jobs")) for where in (layer, elsewhere) for _ in range(10)]
    await asyncio.gather(*(layer.send("jobs", {"type": "job", "number": number}) for number in range(20)))
    done = await asyncio.wait_for(asyncio.gather(*receivers), 5)
    assert sorted(message["number"] for message in done) == list(range(20))


async def test_a_common_channel_keeps_what_is_sent_before_anybody_receives(
    layer: ChannelLayer, elsewhere: ChannelLayer
) -> None:
    for number in range(3):
        await layer.send("jobs", {"type": "job", "number": number})
    with pytest.raises(ChannelFull):
        await layer.send("jobs", {"type": "job", "number": 3})
    assert [(await next_of(elsewhere, "jobs"))["number"] for _ in range(3)] == [0, 1, 2]


async def test_a_common_channel_loses_nothing_to_a_receive_that_was_cancelled(
    layer: ChannelLayer, elsewhere: ChannelLayer
) -> None:
    for number in range(20):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(layer.receive("jobs"), 0.002 * (number % 3))
        await elsewhere.send("jobs", {"type": "job", "number": number})
        assert (await next_of(elsewhere, "jobs"))["number"] == number


# --- Serializers


async def test_the_wire_format_is_that_of_channels_redis(layer: ChannelLayer) -> None:
    message: dict[str, Any] = {"a": True, "b": None, "c": {"d": []}}
    assert layer.serialize(message) == b"\x83\xa1a\xc3\xa1b\xc0\xa1c\x81\xa1d\x90"
    assert layer.deserialize(b"\x83\xa1a\xc3\xa1b\xc0\xa1c\x81\xa1d\x90") == message


async def test_json_and_encryption_are_passed_on(redis_server: RedisServer) -> None:
    plain = ChannelLayer(serializer_format="json")
    secret = ChannelLayer(symmetric_encryption_keys=["a key"])
    assert plain.serialize({"a": 1}) == b'{"a": 1}'
    assert b"Ahoy" not in secret.serialize({"type": "m", "text": "Ahoy"})
    for layer in (plain, secret):
        channel = await layer.new_channel()
        await layer.send(channel, {"type": "m", "text": "Ahoy"})
        assert (await next_of(layer, channel))["text"] == "Ahoy"
        await layer.close()


async def test_what_cannot_be_read_disturbs_nobody(layer: ChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await Bus.current().publish(redis_keys.group("g"), b"\xc1 no message")
    await layer.group_send("g", {"type": "after"})
    assert (await next_of(layer, channel))["type"] == "after"
