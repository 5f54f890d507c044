"""Fixtures: channel layers of two processes, recorded Redis pipelines, and a runner for both event loops."""

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
    """The channel layer of another process: it shares no memory with `layer`, and has its own connections."""
    layer = ChannelLayer([{"address": redis_server.url, "socket_timeout": 14}], capacity=3)
    yield layer
    await layer.close()


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> Exchanges:
    """Record the pipelines that are sent to Redis."""
    exchanges = Exchanges()
    exchanges.record(monkeypatch)
    return exchanges


@pytest.fixture(autouse=True)
def quick_drain(settings: Settings) -> None:
    """Let a server that stops close its connections at once, not spread over time."""
    settings.CHANNELBOX_DRAIN_SECONDS = 0


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return lambda scenario: request.param(asyncio.wait_for(scenario, 30))
