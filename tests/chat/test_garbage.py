"""A connection that is gone is freed at once, and left to no garbage collector.

Thousands may go at one moment. To collect what they leave would stop the event loop, and so everybody else, for as long
as it takes: 5,000 connections took 0.3 s.
"""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator

import pytest
from django.conf import settings as django_settings
from tests.chat.process import ORIGIN, Workers, connections_go_back, installation, runtime, workers
from tests.realtime.serving import Served, served
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

from channelbox.asgi import application
from channelbox.chat.consumers import ChatConsumer
from channelbox.chat.runtime import ChatRuntime
from channelbox.dashboard.consumers import DashboardConsumer
from channelbox.realtime.counters import counters
from channelbox.realtime.protocol import FrameProtocol

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS = 5  # of each kind
PER_CONNECTION = (FrameProtocol, ChatConsumer, DashboardConsumer)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held() -> int:
    """Return how many objects of connections there are: of those that are open, or referred to, or garbage."""
    return sum(type(each) in PER_CONNECTION for each in gc.get_objects())


async def freed(before: int) -> None:
    """Wait until there are no more than before. A new socket's rights are looked at once more within a second."""
    async with asyncio.timeout(60):
        while held() > before:
            await asyncio.sleep(0.05)


@pytest.fixture
async def site(runtime: ChatRuntime) -> AsyncIterator[Served]:
    async with served(application) as site:
        yield site


async def opened(site: Served, path: str) -> ClientConnection:
    address = f"ws://127.0.0.1:{site.port}{path}"
    return await connect(address, origin=Origin(ORIGIN), compression=None, ping_interval=None)


async def entered(site: Served, path: str) -> ClientConnection:
    """A client that was answered."""
    client = await opened(site, path)
    await client.recv()
    return client


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("path", ["/ws/chat/lobby/", "/ws/chat/lobby/?after=0", "/ws/dashboard/"])
@pytest.mark.parametrize("goes", ["closes", "is cut off"])
async def test_who_leaves_is_freed(site: Served, path: str, goes: str) -> None:
    first = await entered(site, "/ws/chat/lobby/")  # makes the room
    before = held()
    clients = [await entered(site, path) for _ in range(CLIENTS)]
    for client in clients:
        await client.send(json.dumps({"message": "hello"}))
        await client.recv()
    assert held() == before + 2 * CLIENTS
    for client in clients:
        if goes == "closes":
            await client.close()
        else:
            client.transport.abort()
    await freed(before)
    await first.close()


async def test_who_is_refused_is_freed(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_settings, "CHANNELBOX_ROOM_LIMIT", 1)
    first = await entered(site, "/ws/chat/lobby/")
    before = held()
    for path in ("/ws/chat/lobby/", "/ws/chat/x%20x/", "/ws/chat/nowhere/?after=5"):
        client = await entered(site, path)
        with pytest.raises(ConnectionClosed):
            await client.recv()
    await freed(before)
    await first.close()


async def test_who_goes_before_it_is_in_is_freed(site: Served) -> None:
    first = await entered(site, "/ws/chat/lobby/")
    before, accepted = held(), counters.accepted
    for turns in range(0, 40, 2):
        client = await opened(site, "/ws/chat/lobby/")
        for _ in range(turns):
            await asyncio.sleep(0)
        client.transport.abort()
    await freed(before)
    assert counters.accepted > accepted
    await first.close()
