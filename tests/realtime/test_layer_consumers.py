"""Consumers written for Channels run unchanged on the default layer."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.layers import get_channel_layer
from channels.testing import ApplicationCommunicator, WebsocketCommunicator
from tests.realtime.tutorial import AsyncChat, JsonChat, SyncChat
from tests.support.servers import RedisServer

from channelbox.realtime import redis_keys
from channelbox.realtime.layer import ChannelLayer


@pytest.fixture
async def layer() -> AsyncIterator[ChannelLayer]:
    layer = get_channel_layer()
    yield layer
    await layer.close()


def client_of(consumer: Any, room: str = "lobby") -> WebsocketCommunicator:
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    client.scope["url_route"] = {"kwargs": {"room_name": room}}
    return client


async def connected(consumer: Any, room: str = "lobby") -> WebsocketCommunicator:
    client = client_of(consumer, room)
    assert (await client.connect(timeout=5))[0]
    return client


@pytest.mark.parametrize("consumer", [AsyncChat, SyncChat, JsonChat])
async def test_the_chat_room_of_the_channels_tutorial_works(
    layer: ChannelLayer, redis_server: RedisServer, consumer: Any
) -> None:
    alice, bob = await connected(consumer), await connected(consumer)
    elsewhere = await connected(AsyncChat, "elsewhere")
    for number in range(20):
        await alice.send_json_to({"message": f"{number}"})
    for person in (alice, bob):
        assert [(await person.receive_json_from(5))["message"] for _ in range(20)] == [str(n) for n in range(20)]
    await bob.disconnect()
    await alice.send_json_to({"message": "alone"})
    assert await alice.receive_json_from(5) == {"message": "alone"}
    await alice.disconnect()
    assert await elsewhere.receive_nothing(0.01)
    await elsewhere.disconnect()
    await layer.new_channel()
    with redis_server.client() as client:
        assert client.pubsub_channels(redis_keys.group("*")) == []


async def test_sync_and_async_consumers_share_a_room(layer: ChannelLayer) -> None:
    people = [await connected(consumer) for consumer in (AsyncChat, SyncChat, JsonChat)]
    for speaker in people:
        await speaker.send_json_to({"message": "hello"})
        assert [await person.receive_json_from(5) for person in people] == [{"message": "hello"}] * 3
    for person in people:
        await person.disconnect()


class Fragile(AsyncChat):
    """A consumer that fails in a group message, as when uvicorn reports a lost client. disconnect() is never called."""

    async def chat_message(self, event: dict[str, Any]) -> None:
        raise ConnectionResetError(event["message"])


async def test_a_consumer_that_fails_in_a_group_message_is_cleaned_up(
    layer: ChannelLayer,
) -> None:
    survivor = await connected(AsyncChat)
    before = len(layer._local().mailboxes)
    for number in range(20):
        fragile = await connected(Fragile)
        await survivor.send_json_to({"message": f"{number}"})
        assert await survivor.receive_json_from(30) == {"message": f"{number}"}
        with pytest.raises(ConnectionResetError):
            await fragile.wait(30)
    del fragile
    async with asyncio.timeout(60):
        while len(layer._local().mailboxes) > before:
            gc.collect()
            await asyncio.sleep(0.01)
    assert len(layer._local().groups["chat_lobby"].members) == 1
    await survivor.disconnect()


async def test_a_worker_consumer_receives_from_a_shared_channel(layer: ChannelLayer) -> None:
    done: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    class Jobs(AsyncChat):
        async def job(self, message: dict[str, Any]) -> None:
            await done.put(message)

    worker = ApplicationCommunicator(Jobs.as_asgi(), {"type": "channel", "channel": "jobs"})
    await layer.send("jobs", {"type": "job", "number": 1})
    await worker.send_input(await layer.receive("jobs"))
    assert (await asyncio.wait_for(done.get(), 5))["number"] == 1
    worker.stop()
