"""The dashboard's socket, driven by Channels' test client."""

import asyncio
import contextlib
import json

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser

from channelbox.accounts.models import User
from channelbox.dashboard import broadcaster
from channelbox.dashboard.consumers import DashboardConsumer
from channelbox.monitoring.process_reports import Reporter
from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Close, Code
from channelbox.version import package_version


@pytest.fixture
async def reporter(bus):
    reporter = Reporter("web")
    await reporter.start()
    yield reporter
    await reporter.stop()


def socket(user=None):
    communicator = WebsocketCommunicator(DashboardConsumer.as_asgi(), "/ws/dashboard/")
    communicator.scope["user"] = user or User(username="alice")
    return communicator


@contextlib.asynccontextmanager
async def connected():
    client = socket()
    assert (await client.connect())[0]
    yield client
    await client.disconnect()


async def next_data(client):
    while True:
        received = await client.receive_json_from(3)
        if "data" in received:
            return received["data"]


async def drained(client):
    """Receive and drop every frame that was sent already."""
    while not await client.receive_nothing(0.01):
        await client.receive_output(0.01)


async def test_a_client_gets_a_welcome_and_then_data(reporter):
    async with connected() as client:
        welcome = await client.receive_json_from()
        assert welcome["type"] == "welcome"
        assert welcome["version"] == package_version()
        assert set(welcome["series"]) == {"step_s", "at", "totals", "nodes"}
        data = await next_data(client)
        assert set(data) == {"at", "totals", "nodes", "processes"}


async def test_updates_arrive_without_being_requested(reporter):
    async with connected() as client:
        times = [(await next_data(client))["at"] for _ in range(3)]
        assert len(set(times)) == 3


@pytest.mark.parametrize("frame", ["{}", '{"type": "ping"}', '{"anything": [1]}'])
async def test_any_frame_requests_an_update_for_every_client(reporter, monkeypatch, frame):
    monkeypatch.setattr(broadcaster, "INTERVAL_SECONDS", 3600.0)
    async with connected() as requester, connected() as other:
        await next_data(other)
        await drained(requester)
        await requester.send_to(text_data=frame)
        assert (await next_data(requester))["at"] == (await next_data(other))["at"]


@pytest.mark.parametrize("frame", ["hi", "[]", "[" * 50_000, "\x00", '"', "null", "1e999"])
async def test_an_invalid_frame_gets_an_error_and_still_an_update(reporter, monkeypatch, frame):
    monkeypatch.setattr(broadcaster, "INTERVAL_SECONDS", 3600.0)
    async with connected() as client:
        await next_data(client)
        await client.send_to(text_data=frame)
        received = await client.receive_json_from(2)
        assert received == {"error": "Invalid message format", "code": "invalid"}
        await next_data(client)


async def test_a_binary_frame_closes_the_connection_as_unsupported(reporter):
    async with connected() as client:
        await next_data(client)
        await client.send_to(bytes_data=b"\x00")
        while (received := await client.receive_output(2))["type"] != "websocket.close":
            pass
        assert received["code"] == Close.UNSUPPORTED


async def test_a_flood_of_requests_causes_at_most_ten_updates_per_second(reporter, monkeypatch):
    monkeypatch.setattr(broadcaster, "INTERVAL_SECONDS", 3600.0)
    reads = []
    read = broadcaster.read_processes

    async def counting_read():
        reads.append(1)
        return await read()

    monkeypatch.setattr(broadcaster, "read_processes", counting_read)
    async with connected() as client:
        await next_data(client)
        reads.clear()
        begun = asyncio.get_running_loop().time()
        for _ in range(2000):
            await client.send_to(text_data="{}")
        await next_data(client)
        await client.receive_nothing(0.5)
        seconds = asyncio.get_running_loop().time() - begun
        assert 1 <= len(reads) <= seconds * 10 + 2


async def test_one_read_of_the_reports_serves_all_clients(reporter, monkeypatch):
    reads = []
    read = broadcaster.read_processes

    async def counting_read():
        reads.append(1)
        return await read()

    monkeypatch.setattr(broadcaster, "read_processes", counting_read)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected()) for _ in range(50)]
        for client in clients:
            await drained(client)
        reads.clear()
        for client in clients:
            await next_data(client)
        assert len(reads) <= 2


async def test_nothing_runs_without_clients(reporter, bus):
    async def until_subscribers(count):
        while await bus.client(redis_keys.dashboard()).pubsub_numsub(redis_keys.dashboard()) != [
            (redis_keys.dashboard().encode(), count)
        ]:
            await asyncio.sleep(0.01)

    before = asyncio.all_tasks()
    async with asyncio.timeout(5):
        async with connected():
            await until_subscribers(1)
        await until_subscribers(0)
        while any("dashboard" in task.get_name() for task in asyncio.all_tasks() - before):
            await asyncio.sleep(0.01)


async def test_a_client_that_connects_after_the_last_left_gets_updates(reporter, monkeypatch):
    monkeypatch.setattr(broadcaster, "INTERVAL_SECONDS", 3600.0)
    for _ in range(20):
        async with connected() as client:
            await next_data(client)
    async with connected() as client:
        await next_data(client)
        await drained(client)
        await client.send_json_to({})
        await next_data(client)


async def test_a_guest_gets_a_sign_in_error_where_guests_are_not_allowed(reporter):
    client = socket(AnonymousUser())
    assert (await client.connect())[0]
    assert (await client.receive_json_from())["code"] == Code.SIGN_IN
    assert (await client.receive_output())["code"] == Close.SIGN_IN


async def test_guests_see_the_dashboard_where_guests_are_allowed(reporter, settings):
    settings.CHANNELBOX_GUESTS = True
    client = socket(AnonymousUser())
    assert (await client.connect())[0]
    assert (await client.receive_json_from())["type"] == "welcome"
    await client.disconnect()


async def test_no_data_is_sent_while_redis_is_down(new_redis, settings):
    server = new_redis()
    settings.CHANNELBOX_REDIS_HOSTS = [{"address": server.url, "socket_timeout": 2, "socket_connect_timeout": 2}]
    reporter = Reporter("web")
    await reporter.start()
    async with connected() as client:
        await next_data(client)
        server.stop()
        await drained(client)
        assert await client.receive_nothing(1.5)
        late = socket()
        assert (await late.connect())[0]
        assert (await late.receive_json_from())["code"] == Code.TRY_LATER
        assert (await late.receive_output())["code"] == Close.TRY_LATER
        server.start()
        async with asyncio.timeout(10):
            await client.receive_from(10)
    await reporter.stop()
    await Bus.current().stop()


async def test_frames_are_compact_json(reporter):
    async with connected() as client:
        text = await client.receive_from()
        assert json.dumps(json.loads(text), separators=(",", ":")) == text
