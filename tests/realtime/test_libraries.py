"""Undocumented behaviour of libraries that channelbox relies on. A failure names the page that says what to do."""

import asyncio
import gc
import weakref
from typing import Any

import pytest
from channels.consumer import AsyncConsumer
from channels.testing import ApplicationCommunicator
from tests.realtime.serving import Run
from tests.support.servers import RedisServer

from channelbox.realtime.mailbox import ChannelName
from channelbox.realtime.redis_hosts import make_pool
from channelbox.realtime.subscription_session import take_over

SUBSCRIBER = "redis-py has changed: docs/decisions/subscriber.md"
LIFETIME = "Channels has changed: docs/decisions/channel-lifetime.md"


class FirstBytes(asyncio.Protocol):
    """A protocol that keeps the first bytes received."""

    def __init__(self) -> None:
        self.received = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.received.done():
            self.received.set_result(data)


def test_a_redis_py_connection_can_be_taken_over(redis_server: RedisServer, run: Run) -> None:
    async def scenario() -> None:
        connection = make_pool({"address": redis_server.url}).make_connection()
        await connection.connect()
        writer = take_over(connection)
        protocol = FirstBytes()
        writer.transport.set_protocol(protocol)
        # Nothing that redis-py does to its object later may reach the stream.
        assert not connection.is_connected, SUBSCRIBER
        await connection.disconnect()
        del connection
        gc.collect()
        writer.transport.write(b"PING\r\n")
        async with asyncio.timeout(5):
            assert await protocol.received == b"+PONG\r\n", SUBSCRIBER
        writer.transport.abort()

    run(scenario())


async def test_an_unsupported_redis_py_is_rejected() -> None:
    class OtherConnection:
        _stream = None

    with pytest.raises(RuntimeError, match=r"subscriber\.md"):
        take_over(OtherConnection())


class Holding(AsyncConsumer):
    """A consumer that fails on request."""

    async def test_die(self, message: dict[str, Any]) -> None:
        raise ZeroDivisionError


async def test_only_the_consumer_holds_its_channel_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[weakref.ref[ChannelName]] = []

    class Layer:
        async def new_channel(self) -> ChannelName:
            name = ChannelName("name")
            names.append(weakref.ref(name))
            return name

        async def receive(self, channel: str) -> Any:
            assert type(channel) is ChannelName, LIFETIME
            await asyncio.Event().wait()

    monkeypatch.setattr("channels.consumer.get_channel_layer", lambda alias: Layer())
    client = ApplicationCommunicator(Holding.as_asgi(), {"type": "test"})
    await client.send_input({"type": "test.die"})
    with pytest.raises(ZeroDivisionError):
        await client.wait(5)
    assert len(names) == 1, LIFETIME
    del client
    async with asyncio.timeout(5):
        while names[0]() is not None:  # the receiving task ends in the next turns
            gc.collect()
            await asyncio.sleep(0.01)
    # The name lives as long as the consumer, which alone holds it.
    client = ApplicationCommunicator(Holding.as_asgi(), {"type": "test"})
    await client.receive_nothing(0.05)
    gc.collect()
    assert names[1]() is not None, LIFETIME
    client.stop(exceptions=False)
