"""The Redis clients: an error that Redis answers leaves no garbage behind."""

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ResponseError

from channelbox.realtime.redis_hosts import RedisHosts

pytestmark = pytest.mark.usefixtures("without_garbage_collector")


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    hosts = RedisHosts()
    yield hosts.clients[0]
    await hosts.aclose()


class Message:
    """What a caller holds while Redis answers."""


async def refused_command(client: Redis) -> "weakref.ref[Message]":
    """Return a reference to what the caller of a command held that Redis refused."""
    message = Message()
    with suppress(ResponseError):
        await client.execute_command("NO-SUCH-COMMAND")
    return weakref.ref(message)


async def unknown_script(client: Redis) -> "weakref.ref[Message]":
    """Return a reference to what the caller of a script held that Redis did not know yet."""
    message = Message()
    await client.script_flush()
    assert await AsyncScript(client, "return 7")([], []) == 7
    return weakref.ref(message)


async def refused_pipeline(client: Redis) -> "weakref.ref[Message]":
    """Return a reference to what the caller of a pipeline held of which Redis refused a command."""
    message = Message()
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command("NO-SUCH-COMMAND")
    with suppress(ResponseError):
        await pipeline.execute()
    return weakref.ref(message)


async def pipeline_with_an_error(client: Redis) -> "weakref.ref[Message]":
    """Return a reference to what the caller of a pipeline held that got an error among its answers."""
    message = Message()
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command("NO-SUCH-COMMAND")
    pipeline.time()
    error, _ = await pipeline.execute(raise_on_error=False)
    assert isinstance(error, ResponseError)
    return weakref.ref(message)


@pytest.mark.parametrize("call", [refused_command, unknown_script, refused_pipeline, pipeline_with_an_error])
async def test_an_error_keeps_nothing_of_its_caller_in_memory(
    client: Redis, call: Callable[[Redis], Awaitable["weakref.ref[Message]"]]
) -> None:
    assert (await call(client))() is None
