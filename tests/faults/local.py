"""The target on this machine: nginx, web processes, workers, Redis and a database of its own, and what befalls them."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest import mock

from tests.faults.database import Database, PostgreSQL, SQLite
from tests.faults.entry import AFTER_COMMIT, BEFORE_COMMIT
from tests.faults.faults import ONE_PROCESS_SECONDS, Fault
from tests.faults.nginx import Nginx
from tests.servers import RedisServer

from channelbox.console import local as installation
from channelbox.console.child import Child

WEB, WORKERS = 2, 2
MEMORY = "64mb"
FROZEN_SECONDS = 10.0
READY_SECONDS = 30.0
TRAP_SECONDS = 10.0
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
OTHER_CLOCK = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


class LocalTarget:
    """Started and stopped as a context. What its processes print is in `folder`."""

    def __init__(self, folder: Path, database: str, broken: str = "") -> None:
        self.folder = folder
        self.url = ""
        self.options: dict[str, object] = {}
        self._broken = broken
        self._stack = contextlib.AsyncExitStack()
        self._runtime = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="channelbox-")))
        self._runtime.chmod(0o755)
        data = self._runtime / "data"
        self.database: Database = PostgreSQL(data) if database == "postgresql" else SQLite(data)
        self.redis = RedisServer(self._runtime / "redis", "--maxmemory", MEMORY, "--maxmemory-policy", "noeviction")
        self.traps = self._runtime / "traps"
        self.nginx = Nginx(self._runtime / "nginx")

    async def __aenter__(self) -> "LocalTarget":
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(self._stack.pop_all())
            self.traps.mkdir()
            await asyncio.to_thread(self.database.start)
            stack.callback(self.database.stop)
            self.redis.start()
            stack.callback(self.redis.stop)
            self.local = await self._processes(stack)
            self.nginx.start(self.local.url.removeprefix("http://"))
            stack.callback(self.nginx.stop)
            self.url = self.nginx.url
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _processes(self, stack: contextlib.AsyncExitStack) -> installation.Local:
        log = stack.enter_context((self.folder / "processes.log").open("w", buffering=1))
        command = [sys.executable, "-m", "tests.faults.entry"]
        stack.enter_context(mock.patch.object(installation, "COMMAND", command))
        own = {"FAULTS_TRAPS": str(self.traps), "FAULTS_BROKEN": self._broken}
        stack.enter_context(mock.patch.dict(os.environ, own))
        local = installation.Local(
            self._runtime / "local",
            lambda name, line: print(f"{name:>9} | {line}", file=log),
            web=WEB,
            workers=WORKERS,
            database_url=self.database.url,
            redis_url=self.redis.url,
        )
        await local.start()
        stack.push_async_callback(local.stop)
        return local

    # --- What a run needs

    async def cookies(self, count: int) -> list[str]:
        """Sessions of that many people."""
        return [await asyncio.to_thread(self._cookie) for _ in range(count)]

    def _cookie(self) -> str:
        with urllib.request.urlopen(f"{self.url}/chat/", timeout=10) as answer:
            cookies = answer.headers.get_all("Set-Cookie") or []
        (session,) = [each.partition(";")[0] for each in cookies if each.startswith("channelbox_session=")]
        return session

    async def rows(self) -> list[tuple[str, int, str]]:
        """The record: room, number, id."""
        return await asyncio.to_thread(self.database.rows)

    def faults(self) -> list[Fault]:
        """All that may befall it, on this machine."""
        return [
            _one("a worker killed", "worker", self._kill(lambda chance: chance.choice(self.local.workers))),
            _one("a worker killed before COMMIT", "worker", lambda _: self._trapped(BEFORE_COMMIT)),
            _one("a worker killed between COMMIT and PUBLISH", "worker", lambda _: self._trapped(AFTER_COMMIT)),
            _one("a web process killed", "web", self._kill(lambda chance: chance.choice(self.local.web))),
        ]

    # --- Processes

    def _kill(self, choose: Callable[[random.Random], Child]) -> Callable[[random.Random], Awaitable[None]]:
        async def strike(chance: random.Random) -> None:
            choose(chance).signal(signal.SIGKILL)

        return strike

    async def _trapped(self, place: str) -> None:
        file = self.traps / place
        file.touch()
        async with asyncio.timeout(TRAP_SECONDS):
            while file.exists():
                await asyncio.sleep(0.01)


def _one(name: str, part: str, strike: Callable[[random.Random], Awaitable[None]]) -> Fault:
    return Fault(name, frozenset({part}), strike, ONE_PROCESS_SECONDS, 9.0)
