"""Layers of two processes, as far as anything shared goes; both event loops."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop
from pytest_django import Settings
from tests.realtime.exchanges import Exchanges
from tests.realtime.serving import Run
from tests.support.servers import RedisServer

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


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> Exchanges:
    """What goes to Redis in pipelines."""
    exchanges = Exchanges()
    exchanges.record(monkeypatch)
    return exchanges


@pytest.fixture(autouse=True)
def quick_drain(settings: Settings) -> None:
    """A server that stops does not spread the ends of its connections."""
    settings.CHANNELBOX_DRAIN_SECONDS = 0


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return lambda scenario: request.param(asyncio.wait_for(scenario, 30))
