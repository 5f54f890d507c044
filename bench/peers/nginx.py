"""nginx from Debian's package, with a separate configuration and one worker process."""

import shutil
from pathlib import Path
from signal import SIGTERM

from bench.peers.peer import Listening

BASE = """\
{modules}
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}
}}
"""
FILES = 40_000  # open files; a proxied WebSocket takes two


def nginx(folder: Path, port: int, http: str, modules: str = "") -> Listening:
    """Return an nginx that listens on this port when started. `http` is the content of its http block."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        BASE.format(modules=modules, folder=folder, http=http, files=FILES, connections=FILES - 1000)
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return Listening(folder, [program, "-c", str(configuration)], port, stop=SIGTERM)
