"""channelbox behind nginx with TLS, as browsers reach it. nginx connects over a Unix socket, as on a node."""

import shutil
import socket
import tempfile
from pathlib import Path

from tests.nginx.serving import certificate, packaged_site
from tests.support.servers import free_port

from bench.generator import Address
from bench.peers.channelbox import Channelbox
from bench.peers.nginx import nginx
from bench.peers.peer import Listening
from channelbox.server import BACKLOG


class ChannelboxNginx:
    """A separate installation with the nginx site of the package, with its limits, and the backlog of the roles."""

    name = "channelbox-nginx-tls"

    def __init__(self, folder: Path, people: int) -> None:
        self._folder = folder
        self._port = free_port()
        self._server: Listening | None = None
        # A short path, as that of a Unix socket has at most 107 bytes
        self._runtime = Path(tempfile.mkdtemp(prefix="bench-"))
        self._channelbox = Channelbox(folder, people, listener=self._listener())

    async def start(self) -> None:
        await self._channelbox.start()
        certificate(self._folder)
        path = self._runtime / "web.sock"
        site = packaged_site(self._folder, self._port, f"unix:{path}")
        http = site.replace(f":{self._port} ssl;", f":{self._port} ssl backlog={BACKLOG};")
        self._server = nginx(self._folder, self._port, http)
        self._server.start()

    async def restart(self) -> None:
        if self._server is not None:
            self._server.stop()
        await self._channelbox.restart()
        if self._server is not None:
            self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        await self._channelbox.stop()
        shutil.rmtree(self._runtime, ignore_errors=True)

    @property
    def address(self) -> Address:
        return self._channelbox.at(self._port, tls=True)

    @property
    def processes(self) -> list[int]:
        return [*self._channelbox.processes, *([self._server.pid] if self._server else [])]

    def _listener(self) -> socket.socket:
        """Return a listening Unix socket that the user of nginx may connect to."""
        self._runtime.chmod(0o755)
        path = self._runtime / "web.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(BACKLOG)
        return listener
