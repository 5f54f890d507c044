"""An nginx in front of the installation, with the site of the package, but without TLS."""

import signal
import socket
from pathlib import Path

from tests.nginx.serving import packaged_site
from tests.support.servers import Server, free_port

CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include /etc/nginx/mime.types;
{site}
}}
"""


class Nginx(Server):
    """A child process on a port of 127.0.0.1, which it keeps across restarts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        super().__init__(folder, command, stop=signal.SIGTERM)

    def start_before(self, upstream: str) -> None:
        """Start nginx in front of this address."""
        site = packaged_site(self.folder, self.port, upstream, tls=False)
        text = CONFIGURATION.format(folder=self.folder, site=site)
        (self.folder / "nginx.conf").write_text(text)
        self.start()

    def reload(self) -> None:
        """Start new workers; the old ones remain until their WebSockets end."""
        if self.process is not None:  # another fault may have stopped it
            self.signal(signal.SIGHUP)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
