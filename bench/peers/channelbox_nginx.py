"""channelbox behind nginx with TLS, as browsers reach it: nginx talks to it over a Unix socket, as on a node."""

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.servers import free_port

from bench.generator import HOST, Address
from bench.peers.channelbox import Channelbox
from bench.peers.nginx import nginx
from bench.peers.peer import Listening
from channelbox.server import BACKLOG

LOCATIONS = Path(__file__).resolve().parents[2] / "packaging" / "debian" / "nginx" / "locations.conf"
HTTP = """\
    upstream channelbox {{ server unix:{socket}; }}
    server {{
        listen {host}:{port} ssl backlog=4096;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        include {locations};
    }}
"""


class ChannelboxNginx:
    """An installation of its own, with the locations of the package."""

    name = "channelbox-nginx-tls"

    def __init__(self, folder: Path, people: int) -> None:
        self._folder = folder
        self._port = free_port()
        self._server: Listening | None = None
        self._runtime = Path(tempfile.mkdtemp(prefix="bench-"))  # the path of a Unix socket may have 107 bytes
        self._channelbox = Channelbox(folder, people, listener=self._listener())

    async def start(self) -> None:
        await self._channelbox.start()
        self._certificate()
        path = self._runtime / "web.sock"
        http = HTTP.format(host=HOST, port=self._port, folder=self._folder, locations=LOCATIONS, socket=path)
        self._server = nginx(self._folder, self._port, http)
        self._server.start()

    async def renew(self) -> None:
        if self._server is not None:
            self._server.stop()
        await self._channelbox.renew()
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
        """Where nginx's own user can reach it."""
        self._runtime.chmod(0o755)
        path = self._runtime / "web.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(BACKLOG)
        return listener

    def _certificate(self) -> None:
        key, certificate = self._folder / "key.pem", self._folder / "cert.pem"
        words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        files = ["-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={HOST}"]
        subprocess.run(["openssl", *words, *files], check=True, capture_output=True)
