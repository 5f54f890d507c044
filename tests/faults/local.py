"""The target on this machine: nginx, web processes, workers, Redis and a separate database, and their faults."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

from tests.faults.database import PostgreSQL, SQLite
from tests.faults.entry import AFTER_COMMIT, BEFORE_COMMIT
from tests.faults.faults import ONE_PROCESS_SECONDS, Fault, Strike
from tests.faults.nginx import Nginx
from tests.faults.people import guest_cookie
from tests.support.servers import RedisServer

from channelbox.cli import local_installation as installation
from channelbox.cli.supervisor import SupervisedProcess

WEB_PROCESSES, WORKER_PROCESSES = 2, 2
MEMORY = "64mb"
FROZEN_SECONDS = 10.0
HELD_SECONDS = 6.0
READY_SECONDS = 60.0
TRAP_SECONDS = 30.0
WORKER, WEB, REDIS, NGINX, DATABASE = (frozenset({part}) for part in ("worker", "web", "redis", "nginx", "database"))
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
OTHER_CLOCK = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


class LocalTarget:
    """An installation that runs while the context lasts. The output of its processes is in `folder`."""

    def __init__(self, folder: Path, database: str, broken: str = "", redis_hosts: int = 1) -> None:
        self.folder = folder
        self.url = ""
        self.options: dict[str, object] = {}
        self._broken = broken
        self._stack = contextlib.AsyncExitStack()
        self._runtime = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="channelbox-")))
        self._runtime.chmod(0o755)
        data = self._runtime / "data"
        self.database: PostgreSQL | SQLite = PostgreSQL(data) if database == "postgresql" else SQLite(data)
        limits = ("--maxmemory", MEMORY, "--maxmemory-policy", "noeviction")
        self.redis_hosts = [RedisServer(self._runtime / f"redis-{host}", *limits) for host in range(redis_hosts)]
        self.traps = self._runtime / "traps"
        self.nginx = Nginx(self._runtime / "nginx")

    async def __aenter__(self) -> "LocalTarget":
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(self._stack.pop_all())
            self.traps.mkdir()
            await asyncio.to_thread(self.database.start)
            stack.callback(self.database.stop)
            for redis in self.redis_hosts:
                redis.start()
                stack.callback(redis.stop)
            self.local = await self._processes(stack)
            self.nginx.start_before(self.local.url.removeprefix("http://"))
            stack.callback(self.nginx.stop)
            self.url = self.nginx.url
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _processes(self, stack: contextlib.AsyncExitStack) -> installation.LocalInstallation:
        log = stack.enter_context((self.folder / "processes.log").open("w", buffering=1))
        command = [sys.executable, "-m", "tests.faults.entry"]
        stack.enter_context(mock.patch.object(installation, "COMMAND", command))
        own = {"FAULTS_TRAPS": str(self.traps), "FAULTS_BROKEN": self._broken}
        stack.enter_context(mock.patch.dict(os.environ, own))
        local = installation.LocalInstallation(
            self._runtime / "local",
            lambda name, line: print(f"{name:>9} | {line}", file=log),
            web=WEB_PROCESSES,
            workers=WORKER_PROCESSES,
            database_url=self.database.url,
            redis_url=",".join(redis.url for redis in self.redis_hosts),
        )
        await local.start()
        stack.push_async_callback(local.stop)
        return local

    # --- Called by a run

    async def cookies(self, count: int) -> list[str]:
        """Return cookies of sessions of `count` guests."""
        return [await asyncio.to_thread(guest_cookie, self.url) for _ in range(count)]

    async def rows(self) -> list[tuple[str, int, str]]:
        """Return the stored events: room, number, and sender with id."""
        return await asyncio.to_thread(self.database.rows)

    def faults(self) -> list[Fault]:
        """Return all faults that are possible here; `missing` returns the others."""
        faults = [
            _one("a worker killed", WORKER, self._kill(lambda rng: rng.choice(self.local.workers))),
            _one("a worker killed before COMMIT", WORKER, lambda _: self._trapped(BEFORE_COMMIT)),
            _one("a worker killed between COMMIT and PUBLISH", WORKER, lambda _: self._trapped(AFTER_COMMIT)),
            _one("a web process killed", WEB, self._kill(lambda rng: rng.choice(self.local.web))),
            Fault(
                "a worker frozen for 10 s", frozenset({"worker"}), self._freeze(lambda: self.local.workers), seconds=20
            ),
            Fault(
                "a web process frozen for 10 s", frozenset({"web"}), self._freeze(lambda: self.local.web), seconds=20
            ),
            Fault("every process restarted", WORKER | WEB, self._restart_all),
            Fault("Redis killed", REDIS, self._redis_killed),
            Fault("Redis restarted, empty", REDIS, self._redis_restarted),
            Fault("Redis frozen for 10 s", REDIS, self._redis_frozen, seconds=22),
            Fault("Redis full", REDIS, self._redis_full, seconds=16),
            Fault("Redis' connections cut", REDIS, self._redis_cut, seconds=8),
            Fault("nginx reloaded", NGINX, self._nginx_reloaded, seconds=8),
            Fault("nginx restarted", NGINX, self._nginx_restarted),
            *self._of_database(self.database),
        ]
        if FAKETIME.exists():
            faults.append(Fault("a clock 5 minutes off", WORKER | WEB, self._clock, seconds=20))
        return faults

    def _of_database(self, database: SQLite | PostgreSQL) -> list[Fault]:
        faults = []
        if isinstance(database, PostgreSQL):
            faults += [
                Fault("PostgreSQL restarted", DATABASE, self._calls(database.restart)),
                Fault("PostgreSQL crashed", DATABASE, self._calls(database.crash)),
                Fault("PostgreSQL out of connections", DATABASE, self._holding(database.connections_taken), seconds=20),
            ]
        else:
            faults.append(Fault("the database locked", DATABASE, self._holding(database.locked), seconds=18))
        if database.mounted:
            faults.append(Fault("the data directory full", DATABASE, self._holding(database.full), seconds=18))
        return faults

    def missing(self) -> list[str]:
        """Return the faults that are not possible on this machine, with the reasons."""
        missing = []
        if not FAKETIME.exists():
            missing.append("a clock 5 minutes off: libfaketime is not installed")
        if not self.database.mounted:
            missing.append("the data directory full: only root may mount a filesystem for it")
        return missing

    # --- Processes

    def _kill(self, choose: Callable[[random.Random], SupervisedProcess]) -> Strike:
        async def strike(rng: random.Random) -> None:
            choose(rng).signal(signal.SIGKILL)

        return strike

    def _freeze(self, choose: Callable[[], list[SupervisedProcess]]) -> Strike:
        async def strike(rng: random.Random) -> None:
            child = rng.choice(choose())
            child.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(FROZEN_SECONDS)
            finally:
                child.signal(signal.SIGCONT)

        return strike

    async def _trapped(self, place: str) -> None:
        """Set a trap, and wait until a worker is killed by it, or for a timeout, as another fault may prevent that."""
        file = self.traps / place
        file.touch()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TRAP_SECONDS):
                while file.exists():
                    await asyncio.sleep(0.01)
        file.unlink(missing_ok=True)

    async def _restart_all(self, _: random.Random) -> None:
        await asyncio.gather(*(_restart(child) for child in self.local.web + self.local.workers))

    async def _clock(self, rng: random.Random) -> None:
        child = rng.choice(self.local.web + self.local.workers)
        before = child.environment
        child.environment = {**before, **OTHER_CLOCK, "FAKETIME": rng.choice(("+300s", "-300s"))}
        try:
            await _restart(child)
            await asyncio.sleep(HELD_SECONDS)
        finally:
            child.environment = before
        await _restart(child)

    # --- Servers

    async def _redis_killed(self, rng: random.Random) -> None:
        redis = rng.choice(self.redis_hosts)
        redis.kill()
        await asyncio.sleep(rng.uniform(1, 4))
        await asyncio.to_thread(redis.start)

    async def _redis_restarted(self, rng: random.Random) -> None:
        redis = rng.choice(self.redis_hosts)
        await asyncio.to_thread(redis.stop)
        await asyncio.to_thread(redis.start)

    async def _redis_frozen(self, rng: random.Random) -> None:
        redis = rng.choice(self.redis_hosts)
        redis.freeze()
        try:
            await asyncio.sleep(FROZEN_SECONDS)
        finally:
            redis.thaw()

    async def _redis_full(self, rng: random.Random) -> None:
        with rng.choice(self.redis_hosts).client() as client:
            client.config_set("maxmemory", "1mb")
            try:
                await asyncio.sleep(HELD_SECONDS)
            finally:
                client.config_set("maxmemory", MEMORY)

    async def _redis_cut(self, rng: random.Random) -> None:
        with rng.choice(self.redis_hosts).client() as client:
            for _ in range(5):
                client.client_kill_filter(_type=rng.choice(("pubsub", "normal")))
                await asyncio.sleep(rng.random())

    async def _nginx_reloaded(self, _: random.Random) -> None:
        self.nginx.reload()

    async def _nginx_restarted(self, _: random.Random) -> None:
        await asyncio.to_thread(self.nginx.stop)
        await asyncio.to_thread(self.nginx.start)

    @staticmethod
    def _calls(function: Callable[[], None]) -> Strike:
        async def strike(_: random.Random) -> None:
            await asyncio.to_thread(function)

        return strike

    @staticmethod
    def _holding(state: Callable[[], AbstractContextManager[None]]) -> Strike:
        """Return a strike that holds a state for `HELD_SECONDS`."""

        async def strike(_: random.Random) -> None:
            held = state()
            await asyncio.to_thread(held.__enter__)
            try:
                await asyncio.sleep(HELD_SECONDS)
            finally:
                await asyncio.to_thread(held.__exit__, None, None, None)

        return strike


async def _restart(child: SupervisedProcess) -> None:
    """Restart a process in order, as `systemctl restart` does. Returns when it is ready again."""
    child.ready.clear()
    child.signal(signal.SIGTERM)
    async with asyncio.timeout(READY_SECONDS):
        await child.ready.wait()


def _one(name: str, part: frozenset[str], strike: Strike) -> Fault:
    return Fault(name, part, strike, ONE_PROCESS_SECONDS, 9.0)
