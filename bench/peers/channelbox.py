"""channelbox as installed: web processes, workers, its Redis and PostgreSQL."""

import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.support.servers import PostgreSQLServer

from bench.generator import HOST, Address
from bench.peers.peer import tutorial_message
from channelbox.cli.local_installation import LocalInstallation
from channelbox.cli.supervisor import run_once
from channelbox_client import Room

# Only what an administrator would set: who may connect and from where. All limits have their defaults except three of
# those of an address, as only in a benchmark does one address connect a crowd, send without a pause and create rooms.
VARIABLES = {
    "CHANNELBOX_GUESTS": "false",
    "CHANNELBOX_ROOM_CREATION": "users",
    "CHANNELBOX_ORIGIN_REQUIRED": "true",
    "CHANNELBOX_ORIGINS": f"http://{HOST}",
    "CHANNELBOX_SERVE_STATIC": "false",
    "CHANNELBOX_RATE_ADDRESS": "100000",
    "CHANNELBOX_SOCKETS_ADDRESS": "100000",
    "CHANNELBOX_NEW_ROOMS_ADDRESS": "100000",
}


def channelbox_at(port: int, cookies: Sequence[str], *, tls: bool = False) -> Address:
    """Return the address of the rooms of an installation on this port."""
    return Address(port, "/ws/chat/{room}/", tls=tls, cookies=cookies, state=Room, encode=tutorial_message)


class Channelbox:
    """An installation as `make run` starts it, but with a PostgreSQL that waits for its disk at each commit."""

    name = "channelbox"

    def __init__(
        self,
        folder: Path,
        people: int,
        *,
        web: int = 1,
        workers: int = 1,
        listener: socket.socket | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`listener`: the socket on which the web process listens, instead of a port of its own."""
        self._people = people
        self._cookies: Sequence[str] = ()
        self._database = PostgreSQLServer(folder / "postgresql", "-c", "fsync=on")
        self._log = folder / "channelbox.log"
        url = self._database.url("postgres")
        settings = {**VARIABLES, **variables}
        self.local = LocalInstallation(
            folder / "data",
            self._log_line,
            web=web,
            workers=workers,
            listener=listener,
            database_url=url,
            variables=settings,
        )

    async def start(self) -> None:
        self._database.start()
        await self.local.start()
        sessions = [sys.executable, "-m", "bench.sessions", str(self._people)]
        settings = {"DJANGO_SETTINGS_MODULE": "channelbox.settings"}
        status, output = await run_once(sessions, self.local.environment | settings)
        if status:
            raise RuntimeError(output)
        self._cookies = output.split()

    async def restart(self) -> None:
        for child in self.local.web:
            await child.stop()
            await child.start()

    async def stop(self) -> None:
        await self.local.stop()
        self._database.stop()

    @property
    def address(self) -> Address:
        return self.at(int(self.local.url.rpartition(":")[2]))

    def at(self, port: int, *, tls: bool = False) -> Address:
        """Return the address of the rooms on this port, which may be that of a proxy."""
        return channelbox_at(port, self._cookies, tls=tls)

    @property
    def web(self) -> list[int]:
        """Ids of the web processes."""
        return [child.pid for child in self.local.web if child.pid is not None]

    @property
    def workers(self) -> list[int]:
        return [child.pid for child in self.local.workers if child.pid is not None]

    @property
    def database(self) -> list[int]:
        """Id of the main PostgreSQL process, whose children do the work."""
        return [self._database.process.pid] if self._database.process else []

    @property
    def processes(self) -> list[int]:
        return [*self.web, *self.workers, *self.database]

    def _log_line(self, name: str, line: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{name} | {line}\n")
