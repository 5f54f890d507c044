"""The same channelbox through nginx with TLS, as browsers reach it."""

import dataclasses
import subprocess
from pathlib import Path

from tests.servers import free_port

from bench.generator import HOST, Address
from bench.peers.channelbox import Channelbox
from bench.peers.nginx import nginx
from bench.peers.peer import Listening

LOCATIONS = Path(__file__).resolve().parents[2] / "packaging" / "debian" / "nginx" / "locations.conf"
HTTP = """\
    upstream channelbox {{ server {host}:{upstream}; }}
    server {{
        listen {host}:{port} ssl backlog=4096;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        include {locations};
    }}
"""


class ChannelboxNginx:
    """Before a channelbox that is already there, with the locations of the package."""

    name = "channelbox-nginx-tls"

    def __init__(self, folder: Path, channelbox: Channelbox) -> None:
        self._folder = folder
        self._channelbox = channelbox
        self._port = free_port()
        self._server: Listening | None = None

    async def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._certificate()
        upstream = self._channelbox.address.port
        http = HTTP.format(host=HOST, upstream=upstream, port=self._port, folder=self._folder, locations=LOCATIONS)
        self._server = nginx(self._folder, self._port, http)
        self._server.start()

    async def renew(self) -> None:
        await self.stop()
        await self._channelbox.renew()
        if self._server is not None:
            self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    @property
    def address(self) -> Address:
        return dataclasses.replace(self._channelbox.address, port=self._port, tls=True)

    @property
    def processes(self) -> list[int]:
        return [*self._channelbox.processes, *([self._server.pid] if self._server else [])]

    def _certificate(self) -> None:
        key, certificate = self._folder / "key.pem", self._folder / "cert.pem"
        words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        files = ["-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={HOST}"]
        subprocess.run(["openssl", *words, *files], check=True, capture_output=True)
