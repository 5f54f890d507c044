"""Layers of two processes, as far as anything shared goes."""

from collections.abc import AsyncIterator

import pytest
from tests.servers import RedisServer

from channelbox.realtime.layer import ChannelLayer


@pytest.fixture
async def layer() -> AsyncIterator[ChannelLayer]:
    layer = ChannelLayer(capacity=3)
    yield layer
    await layer.close()


@pytest.fixture
async def elsewhere(redis_server: RedisServer) -> AsyncIterator[ChannelLayer]:
    """The layer of another process, as far as anything shared goes: over connections of its own."""
    layer = ChannelLayer([{"address": redis_server.url, "socket_timeout": 14}], capacity=3)
    yield layer
    await layer.close()
