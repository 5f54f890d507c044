"""An nginx in front, with what the package gives to every site."""

import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.servers import START_SECONDS, free_port

LOCATIONS = Path(__file__).parents[2] / "packaging/debian/nginx/locations.conf"
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
    upstream channelbox {{ server {upstream}; }}
    server {{
        listen 127.0.0.1:{port};
        include {locations};
    }}
}}
"""


class Nginx:
    """A child process on a port of 127.0.0.1 that stays its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, upstream: str) -> None:
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        text = CONFIGURATION.format(folder=self.folder, port=self.port, upstream=upstream, locations=LOCATIONS)
        (self.folder / "nginx.conf").write_text(text)
        self.start_again()

    def start_again(self) -> None:
        command = ["nginx", "-c", str(self.folder / "nginx.conf"), "-p", str(self.folder)]
        self._process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command])
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"nginx did not start:\n{(self.folder / 'error.log').read_text()}")
            time.sleep(0.01)

    def reload(self) -> None:
        """New workers; the old ones stay as long as their WebSockets."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Ends it with all its workers, and their connections at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(START_SECONDS)
        self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True
