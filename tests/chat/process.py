"""The chat in one process: its runtime, a worker's consumer on the same event loop, and clients on its connections.

Test modules import the fixtures, because a conftest.py would be loaded before Django has read its settings.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.db import database_sync_to_async as in_database
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.db import close_old_connections
from pytest_django import Settings
from redis.exceptions import RedisError

from channelbox.asgi import application
from channelbox.chat.ingest import INGEST_CHANNEL, IngestConsumer
from channelbox.chat.models import Room
from channelbox.chat.runtime import ChatRuntime
from channelbox.realtime.bus import Bus


class Workers:
    """Workers that can be stopped and started, and that count the batches they receive."""

    def __init__(self) -> None:
        self.batches = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        hosts = range(get_channel_layer("work").hosts)
        self._tasks = [asyncio.create_task(self._run(host, bulk)) for host in hosts for bulk in (False, True)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, host: int, bulk: bool) -> None:
        layer, consumer = get_channel_layer("work"), IngestConsumer()
        while True:
            try:
                messages = await layer.receive_many(INGEST_CHANNEL, 200, 0.2, host, bulk=bulk)
            except (OSError, RedisError):  # a TimeoutError is an OSError
                continue
            if messages:
                self.batches += len(messages)
                await consumer.dispatch({"type": "batch", "channel": INGEST_CHANNEL, "messages": messages})


@pytest.fixture
async def runtime() -> AsyncIterator[ChatRuntime]:
    runtime = await ChatRuntime.current().start()
    yield runtime
    await runtime.stop()
    await Bus.current().stop()


@pytest.fixture
async def workers(runtime: ChatRuntime) -> AsyncIterator[Workers]:
    workers = Workers()
    workers.start()
    yield workers
    await workers.stop()


ORIGIN = "http://localhost"


@pytest.fixture(autouse=True)
def return_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Channels' communicator return database connections to the pool.

    By default it keeps them open, as tests inside one transaction need, and so would exhaust the pool.
    """
    monkeypatch.setattr("channels.testing.application.no_op", close_old_connections)


@pytest.fixture(autouse=True)
def installation(settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS = True
    settings.CHANNELBOX_ROOM_CREATION = "anyone"
    settings.CHANNELBOX_ORIGINS = [ORIGIN]


class Person:
    """A client as simple as that of the Channels tutorial."""

    def __init__(self, path: str, origin: str | None = ORIGIN, cookie: str = "") -> None:
        headers = [(b"origin", origin.encode())] if origin else []
        if cookie:
            headers.append((b"cookie", f"{django_settings.SESSION_COOKIE_NAME}={cookie}".encode()))
        self.socket = WebsocketCommunicator(application, path, headers=headers)
        self.welcome: dict[str, Any] = {}

    async def connect(self) -> dict[str, Any]:
        """Connect. Returns the welcome, or the error that is sent instead."""
        connected, _ = await self.socket.connect(timeout=10)
        assert connected
        self.welcome = await self.next("welcome", "error")
        return self.welcome

    async def say(self, message: object, **more: object) -> None:
        await self.socket.send_to(text_data=json.dumps({"message": message, **more}))

    async def next(self, *kinds: str) -> dict[str, Any]:
        """Return the next frame of one of these types."""
        while True:
            frame = json.loads(await self.socket.receive_from(timeout=10))
            if frame.get("type", "error") in kinds:
                return frame

    async def closed(self) -> int:
        while True:
            message = await self.socket.receive_output(timeout=10)
            if message["type"] == "websocket.close":
                return message["code"]

    async def leave(self) -> None:
        await self.socket.disconnect(timeout=10)


@pytest.fixture
async def people(runtime: ChatRuntime) -> AsyncIterator[list[Person]]:
    people: list[Person] = []
    yield people
    for person in people:
        await person.leave()


@in_database
def make_rooms(*names: str, **fields: object) -> None:
    for name in names:
        Room.objects.create(name=name, **fields)


async def enter_rooms(people: list[Person], *rooms: str) -> list[Person]:
    entered = []
    for room in rooms:
        person = Person(f"/ws/chat/{room}/")
        people.append(person)
        assert (await person.connect())["type"] == "welcome"
        entered.append(person)
    return entered


@pytest.fixture
def enter(people: list[Person]):
    async def enter(path: str = "/ws/chat/lobby/", **options: Any) -> Person:
        person = Person(path, **options)
        people.append(person)
        await person.connect()
        return person

    return enter
