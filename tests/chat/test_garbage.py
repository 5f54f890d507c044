"""The objects of a connection are freed as soon as it ends, without the garbage collector.

Thousands of connections may end at one moment. Collecting their objects would block the event loop, and so all other
connections: for 5,000 it took 0.3 s.
"""

import asyncio
import gc
import json
from collections.abc import AsyncIterator

import pytest
from django.conf import settings as django_settings
from tests.chat.process import ORIGIN, Workers, installation, return_connections, runtime, workers
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

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_garbage_collector")]

CLIENTS = 5  # of each kind
PER_CONNECTION = (FrameProtocol, ChatConsumer, DashboardConsumer)


def connection_objects() -> int:
    """Return how many objects of connections exist: of open ones, and of others that are referred to or garbage."""
    return sum(type(each) in PER_CONNECTION for each in gc.get_objects())


async def until_freed(before: int) -> None:
    """Wait until there are no more than before. A new connection is checked once more within a second."""
    async with asyncio.timeout(20):
        while connection_objects() > before:
            await asyncio.sleep(0.05)


@pytest.fixture
async def site(runtime: ChatRuntime) -> AsyncIterator[Served]:
    async with served(application) as site:
        yield site


async def open_client(site: Served, path: str) -> ClientConnection:
    address = f"ws://127.0.0.1:{site.port}{path}"
    return await connect(address, origin=Origin(ORIGIN), compression=None, ping_interval=None)


async def join_client(site: Served, path: str) -> ClientConnection:
    """Return a connected client that has received its first frame."""
    client = await open_client(site, path)
    await client.recv()
    return client


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("path", ["/ws/chat/lobby/", "/ws/chat/lobby/?after=0", "/ws/dashboard/"])
@pytest.mark.parametrize("goes", ["closes", "is cut off"])
async def test_a_closed_connection_is_freed(site: Served, path: str, goes: str) -> None:
    first = await join_client(site, "/ws/chat/lobby/")  # creates the room
    before = connection_objects()
    clients = [await join_client(site, path) for _ in range(CLIENTS)]
    for client in clients:
        await client.send(json.dumps({"message": "hello"}))
        await client.recv()
    assert connection_objects() == before + 2 * CLIENTS
    for client in clients:
        if goes == "closes":
            await client.close()
        else:
            client.transport.abort()
    await until_freed(before)
    await first.close()


async def test_a_refused_connection_is_freed(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_settings, "CHANNELBOX_ROOM_LIMIT", 1)
    first = await join_client(site, "/ws/chat/lobby/")
    before = connection_objects()
    for path in ("/ws/chat/lobby/", "/ws/chat/x%20x/", "/ws/chat/nowhere/?after=5"):
        client = await join_client(site, path)
        with pytest.raises(ConnectionClosed):
            await client.recv()
    await until_freed(before)
    await first.close()


async def test_a_connection_that_ends_while_joining_is_freed(site: Served) -> None:
    first = await join_client(site, "/ws/chat/lobby/")
    before, accepted = connection_objects(), counters.accepted
    for turns in range(0, 40, 2):
        client = await open_client(site, "/ws/chat/lobby/")
        for _ in range(turns):
            await asyncio.sleep(0)
        client.transport.abort()
    await until_freed(before)
    assert counters.accepted > accepted
    await first.close()
