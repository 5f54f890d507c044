"""Real nginx processes on free ports, with the sites that the package and the roles install."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.servers import Server

ROOT = Path(__file__).parents[2]
PACKAGED = ROOT / "packaging/debian/nginx"
ANSIBLE = ROOT / "ansible"
ERRORS = "/usr/share/channelbox/nginx/errors"
MAIN = """\
daemon off;
# A single process, so that killing or freezing it affects all of nginx
master_process off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    server_tokens off;
    include /etc/nginx/mime.types;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}
}}
"""
PLAY = """\
- hosts: all
  connection: local
  gather_facts: false
  vars_files: [roles/nginx/defaults/main.yml, roles/shared_vars/vars/main.yml, roles/nginx/vars/main.yml]
  tasks:
    - ansible.builtin.template:
        src: {source}
        dest: {folder}/{{{{ inventory_hostname }}}}.conf
        mode: "0644"
"""


class Nginx(Server):
    """An nginx with `http` as the content of its http block. It is ready when `port` accepts connections."""

    def __init__(self, folder: Path, http: str, port: int, *, host: str = "127.0.0.1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self.host, self.port = host, port
        user = "user root;" if os.getuid() == 0 else ""
        self.configuration = folder / "nginx.conf"
        self.configuration.write_text(MAIN.format(folder=folder, http=http, user=user))
        command = ["nginx", "-e", str(folder / "error.log"), "-c", str(self.configuration), "-p", str(folder)]
        super().__init__(folder, command, stop=signal.SIGTERM)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.port)) == 0


def certificate(folder: Path) -> None:
    """Create cert.pem and key.pem in a folder, valid for two days."""
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-subj", "/CN=127.0.0.1"]
    subprocess.run(["openssl", *words, *files], check=True, capture_output=True)


def role_sites(folder: Path, groups: dict[str, list[str]], addresses: dict[str, str], **variables: object) -> Path:
    """Render the role's site for each host with Ansible, into <host>.conf in this folder."""
    hosts = {
        name: {
            "ansible_python_interpreter": sys.executable,
            "_channelbox_node": {"ipv6": False, "address": address},
        }
        for name, address in addresses.items()
    }
    inventory = {
        "all": {
            "hosts": hosts,
            "vars": {"channelbox_hosts": ["127.0.0.1"], "channelbox_settings": {}, **variables},
            "children": {group: {"hosts": {name: {} for name in names}} for group, names in groups.items()},
        }
    }
    (folder / "inventory.json").write_text(json.dumps(inventory))
    source = ANSIBLE / "roles/nginx/templates/site.conf.j2"
    (folder / "play.yml").write_text(PLAY.format(source=source, folder=folder))
    # `vars_files` are relative to the play, so link the roles beside it.
    (folder / "roles").symlink_to(ANSIBLE / "roles")
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / "inventory.json")]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    environment["ANSIBLE_LOCAL_TEMP"] = environment["ANSIBLE_REMOTE_TEMP"] = str(folder / "temporary")
    done = subprocess.run(
        [*command, str(folder / "play.yml")], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return folder


def moved(site: str, address: str, ports: dict[int, int], paths: dict[str, str]) -> str:
    """Return the site with its ports mapped on one address, and with its paths replaced."""
    for path, other in paths.items():
        site = site.replace(path, other)
    return re.sub(r"listen (\d+)\b", lambda found: f"listen {address}:{ports[int(found[1])]}", site)


def packaged_site(folder: Path, port: int, upstream: str, *, tls: bool = True) -> str:
    """Return the package's site on a port of 127.0.0.1. `upstream` is in nginx syntax; `folder` has the certificate."""
    shutil.copytree(PACKAGED / "errors", folder / "errors", dirs_exist_ok=True)
    locations = (PACKAGED / "locations.conf").read_text().replace(ERRORS, str(folder / "errors"))
    (folder / "locations.conf").write_text(locations)
    lines = (PACKAGED / "site.conf").read_text().replace("@NAMES@", "_").splitlines()
    plain = ("listen [::]", "return 308", "listen 80")
    lines = [line for line in lines if not line.strip().startswith(plain if tls else (*plain, "ssl_"))]
    paths = {
        "unix:/run/channelbox/web.sock": upstream,
        "/etc/channelbox/tls": str(folder),
        "/usr/share/channelbox/nginx/locations.conf": str(folder / "locations.conf"),
    }
    # Remove what is left of the block that redirects from http to https.
    site = "\n".join(lines).replace("server {\n    server_name _;\n}\n", "")
    site = moved(site, "127.0.0.1", {443: port}, paths)
    return site if tls else site.replace(f":{port} ssl;", f":{port};")
