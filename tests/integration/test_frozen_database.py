"""A database that hangs: connections stay open and nothing answers."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP, Signals
from typing import Any

import psycopg
import pytest
from tests.integration.local import installation
from tests.support.servers import PostgreSQLServer, RedisServer

from channelbox_client.aio import Room
from channelbox_client.effects import Effect, State

TIMEOUT = 60


@pytest.fixture
def server() -> Iterator[PostgreSQLServer]:
    with tempfile.TemporaryDirectory(prefix="channelbox-") as folder:
        server = PostgreSQLServer(Path(folder))
        server.start()
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE channelbox")
        yield server
        server.stop()


@contextlib.contextmanager
def frozen(server: PostgreSQLServer) -> Iterator[None]:
    """Freeze all processes of a server. The kernel still accepts connections and bytes for them."""
    assert server.process is not None
    postmaster = server.process.pid

    def signal(number: Signals) -> None:
        os.kill(postmaster, number)  # first, so that it starts no further ones
        for child in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)

    signal(SIGSTOP)
    try:
        yield
    finally:
        signal(SIGCONT)


class RoomWithFirstClose(Room):
    """A client that keeps the code of its first close; 0: the client gave up the attempt itself."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.first_close: int | None = None

    def on_effect(self, effect: Effect) -> None:
        super().on_effect(effect)
        if isinstance(effect, State) and effect.name == "waiting" and self.first_close is None:
            self.first_close = effect.code

    async def closed(self) -> None:
        await self.until(lambda: self.first_close is not None)

    async def joined(self) -> None:
        await self.until(lambda: self.client.state == "joined")


async def test_clients_get_1013_before_their_opening_timeout(
    tmp_path: Path, server: PostgreSQLServer, new_redis: Callable[..., RedisServer]
) -> None:
    options = {"database_url": server.url("channelbox"), "redis_url": new_redis().url, "web": 1}
    async with installation(tmp_path, **options) as local:
        async with await local.enter("lobby"):
            pass  # the database has been used before
        url = local.url.replace("http://", "ws://") + "/ws/chat/hall/"
        guest = RoomWithFirstClose(url, proxy=None)
        cookie = {"Cookie": "channelbox_session=abc123"}
        user = RoomWithFirstClose(url, proxy=None, additional_headers=cookie)
        async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as tasks:
            with frozen(server):
                running = [tasks.create_task(client.run()) for client in (guest, user)]
                for client in (guest, user):
                    await client.closed()
            assert (guest.first_close, user.first_close) == (1013, 1013)
            for client in (guest, user):
                await client.joined()
            for task in running:
                task.cancel()
