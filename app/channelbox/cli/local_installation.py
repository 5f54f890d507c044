"""A complete installation on this machine alone: Redis, web processes on one listening socket, and workers."""

import asyncio
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from channelbox.cli.errors import CliError
from channelbox.cli.supervisor import SupervisedProcess, Tell, run_once
from channelbox.server import bind

HOST = "127.0.0.1"
NOT_INHERITED = ("CHANNELBOX_", "DJANGO_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "SYSTEMD_EXEC_PID")
COMMAND = [sys.executable, "-m", "channelbox.cli.main"]


class LocalInstallation:
    """An installation whose processes run from `start()` to `stop()`; one that dies is started again.

    `folder` holds the database and the secret key, and is created if necessary. `tell` is called with the name of a
    process and a line of its output. `port`: 0 means any. `listener`: a socket that already listens, in the place of
    one on `port`; it is closed at the end. `redis_url`: None means a Redis of its own, which loses everything when it
    ends. `variables`: further CHANNELBOX_* settings.
    """

    def __init__(
        self,
        folder: Path,
        tell: Tell,
        *,
        web: int = 2,
        workers: int = 1,
        port: int = 0,
        listener: socket.socket | None = None,
        database_url: str | None = None,
        redis_url: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.database_url = database_url or f"sqlite:///{self.folder}/db.sqlite3"
        self.redis: SupervisedProcess | None = None
        self.web: list[SupervisedProcess] = []
        self.workers: list[SupervisedProcess] = []
        self.url = ""
        self._tell = tell
        self._options = (web, workers, port, redis_url)
        self._variables = dict(variables or {})
        self._runtime: Path | None = None
        self._listener = listener
        self.environment: dict[str, str] = {}

    async def start(self) -> None:
        """Start all processes and return when they are ready. If one cannot start, stop all and raise CliError."""
        web, workers, port, redis_url = self._options
        self.folder.mkdir(parents=True, exist_ok=True)
        # Not in `folder`: the path of a Unix socket can have at most 107 bytes.
        runtime = self._runtime = Path(tempfile.mkdtemp(prefix="channelbox-"))
        try:
            if self._listener is None:
                self._listener = bind(HOST, port)
                port = self._listener.getsockname()[1]
                self.url = f"http://{HOST}:{port}"
            if redis_url is None:
                redis_url = f"unix://{runtime}/redis.sock?db=0"
                self.redis = SupervisedProcess("redis", self._redis(runtime), _inherited(), self._tell, runtime)
                await self.redis.start()
            self.environment = self._settings(port, redis_url)
            await self.run("migrate")
            descriptor = self._listener.fileno()
            serve = [*COMMAND, "web", "--fd", str(descriptor)]
            self.web = [
                SupervisedProcess(name, serve, self._environment_of(name), self._tell, runtime, [descriptor])
                for name in (f"web@{n}" for n in range(1, web + 1))
            ]
            self.workers = [
                SupervisedProcess(name, [*COMMAND, "worker"], self._environment_of(name), self._tell, runtime)
                for name in (f"worker@{n}" for n in range(1, workers + 1))
            ]
            await asyncio.gather(*(child.start() for child in self.web + self.workers))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all processes: web processes, workers, Redis, so that each tier finishes the work of the one before."""
        for tier in (self.web, self.workers, [self.redis] if self.redis else []):
            await asyncio.gather(*(child.stop() for child in tier))
        if self._listener is not None:
            self._listener.close()
        if self._runtime is not None:
            shutil.rmtree(self._runtime, ignore_errors=True)

    @property
    def children(self) -> list[SupervisedProcess]:
        return [*([self.redis] if self.redis else []), *self.web, *self.workers]

    def kill(self) -> None:
        """Kill all processes at once; `stop()` must still be awaited."""
        for child in self.children:
            child.kill_for_good()

    async def run(self, *arguments: str) -> str:
        """Run a command of `channelbox` with these settings, and return its output. Raises CliError if it fails."""
        status, output = await run_once([*COMMAND, *arguments], self.environment)
        if status:
            raise CliError(f"`channelbox {' '.join(arguments)}` failed with exit status {status}:\n{output.rstrip()}")
        return output

    def _redis(self, runtime: Path) -> list[str]:
        program = shutil.which("redis-server")
        if program is None:
            raise CliError("redis-server is missing.", "Install it: apt-get install redis-server")
        options = {
            "port": "0",
            "unixsocket": f"{runtime}/redis.sock",
            "unixsocketperm": "700",
            "dir": str(runtime),
            "save": "",
            "maxmemory": "256mb",
            "maxmemory-policy": "noeviction",
            "supervised": "systemd",  # reports on the notify socket when it is ready
            "logfile": str(self.folder / "redis.log"),
        }
        return [program, *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _settings(self, port: int, redis_url: str) -> dict[str, str]:
        return {
            **_inherited(),
            "PYTHONUNBUFFERED": "1",
            # So that children import the same code as this process.
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "CHANNELBOX_MODE": "development",
            "CHANNELBOX_GUESTS": "true",
            "CHANNELBOX_ROOM_CREATION": "anyone",
            "CHANNELBOX_ORIGIN_REQUIRED": "false",
            "CHANNELBOX_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
            "CHANNELBOX_SERVE_STATIC": "true",
            "CHANNELBOX_SECRET_KEY": self._secret(),
            "CHANNELBOX_DRAIN_SECONDS": "0.5",
            **self._variables,
            "CHANNELBOX_REDIS_URL": redis_url,
            "CHANNELBOX_DATABASE_URL": self.database_url,
        }

    def _secret(self) -> str:
        """Return the secret key, which is kept so that people stay signed in from one run to the next."""
        file = self.folder / "secret-key"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(50))
        return file.read_text()

    def _environment_of(self, name: str) -> dict[str, str]:
        return {**self.environment, "CHANNELBOX_INSTANCE": name}


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
