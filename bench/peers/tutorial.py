"""The consumer of the Channels tutorial on uvicorn, with either channel layer of channels_redis."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from signal import SIGTERM

from tests.support.servers import free_port

from bench.generator import HOST, Address
from bench.peers.peer import Listening, tutorial_message

ROOT = Path(__file__).resolve().parents[2]
LAYERS = {
    "tutorial": "channels_redis.core.RedisChannelLayer",
    "tutorial-pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}


class Tutorial:
    """One uvicorn process with SQLite, and a Redis that the caller provides."""

    def __init__(self, name: str, folder: Path, redis: str, people: int) -> None:
        folder.mkdir(parents=True)
        self.name = name
        self._people = people
        self._cookies: Sequence[str] = ()
        self._environment = {
            "DJANGO_SETTINGS_MODULE": "bench.tutorial.settings",
            "TUTORIAL_DATABASE": str(folder / "db.sqlite3"),
            "TUTORIAL_LAYER": LAYERS[name],
            "TUTORIAL_REDIS": redis,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "app"))),
        }
        port = free_port()
        variables = [f"{key}={value}" for key, value in self._environment.items()]
        serve = [sys.executable, "-m", "uvicorn", "bench.tutorial.asgi:application", "--log-level", "warning"]
        command = ["env", *variables, *serve, "--host", HOST, "--port", str(port)]
        self._server = Listening(folder, command, port, stop=SIGTERM)

    async def start(self) -> None:
        self._run("django", "migrate", "--verbosity", "0")
        self._cookies = self._run("bench.sessions", str(self._people)).split()
        self._server.start()

    async def restart(self) -> None:
        await self.stop()
        self._server.start()

    async def stop(self) -> None:
        # SIGTERM does not end it if a receive task of the channel layer is left over.
        self._server.kill()

    @property
    def address(self) -> Address:
        return Address(self._server.port, "/ws/chat/{room}/", cookies=self._cookies, encode=tutorial_message)

    @property
    def processes(self) -> list[int]:
        return [self._server.pid]

    def _run(self, *module: str) -> str:
        command = [sys.executable, "-m", *module]
        environment = os.environ | self._environment
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
