"""The demo: a cluster of Debian nodes in containers, installed by site.yml. `make demo` and `make demo-down`.

demo.py check    status 0: the demo is running; 1: it can be set up here; 2: it cannot, for the reason printed
demo.py up       set up the demo, or complete what exists
demo.py down     remove the demo
"""

import dataclasses
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from nodes import cluster  # noqa: E402
from nodes.machine import missing_packages, prepare, refuse_unless_able  # noqa: E402
from nodes.names import container_name  # noqa: E402
from nodes.paths import BUILD, cluster_dir  # noqa: E402
from nodes.plan import Node, from_file  # noqa: E402
from nodes.podman import podman  # noqa: E402
from nodes.run import NodeError, say  # noqa: E402

NAME = "demo"
BALANCER = "lb1"
PLAN = ROOT / "molecule" / "shared" / "cluster.toml"
ENV = BUILD / "demo.env"
CERTIFICATE = BUILD / "demo.pem"
FAVOURITE_PORT = 8443


def main(verb: str) -> int:
    try:
        match verb:
            case "check":
                return check()
            case "up":
                up()
            case "down":
                down()
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except NodeError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. `make demo` continues from here; `make demo-down` removes everything.", file=sys.stderr)
        return 130
    return 0


def check() -> int:
    """Show the demo and return 0 if it runs already, else return 1; raise NodeError if it cannot be made."""
    refuse_unless_able()
    if missing_packages() or not (ENV.exists() and cluster.nodes_of(NAME) and answers()):
        return 1
    print("The demo is already running (`make demo-down` removes it).")
    show()
    return 0


def up() -> None:
    """Make the nodes unless they exist, run site.yml on them, and write build/demo.env."""
    started = time.monotonic()
    prepare()
    if cluster.nodes_of(NAME):
        cluster.start(NAME)
    else:
        ENV.unlink(missing_ok=True)
        plan = from_file(NAME, PLAN)
        nodes = tuple(_published(node) for node in plan.nodes)
        cluster.up(dataclasses.replace(plan, nodes=nodes), volumes=[])
    port = cluster.ports(NAME, BALANCER)[443]
    install(port)
    CERTIFICATE.write_text(on(BALANCER, "cat", "/etc/channelbox/tls/cert.pem"))
    if not ENV.exists():
        write_environment(port)
    if not answers():
        raise NodeError(
            "The cluster is installed but does not respond. See: molecule/shared/node exec demo web1 journalctl"
        )
    say(f"done after {time.monotonic() - started:.0f} s")
    show()


def down() -> None:
    """Remove the nodes, the network and the files that describe them."""
    if missing_packages():
        return  # without podman there is no demo
    prepare()
    cluster.down(NAME)
    for path in (ENV, CERTIFICATE):
        path.unlink(missing_ok=True)


def install(port: int) -> None:
    """Run site.yml on the nodes, with its output on this terminal."""
    say("installing channelbox on the nodes with ansible/site.yml")
    variables = {
        "channelbox_hosts": ["127.0.0.1", "localhost", BALANCER],
        "channelbox_guests": True,
        "channelbox_settings": {
            "CHANNELBOX_ORIGINS": f"https://127.0.0.1:{port},https://localhost:{port}",
            "CHANNELBOX_ORIGIN_REQUIRED": False,
            "CHANNELBOX_ROOM_CREATION": "anyone",
            "CHANNELBOX_OPERATOR": "This is a demo: guests may talk in every room.",
        },
    }
    playbook = shutil.which("ansible-playbook", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if playbook is None:
        raise NodeError("ansible-playbook is missing. Install it with: make venv")
    inventory = cluster_dir(NAME) / "inventory.json"
    command = [playbook, "--inventory", str(inventory), "--extra-vars", json.dumps(variables), "site.yml"]
    done = subprocess.run(command, cwd=ROOT / "ansible", env={**os.environ, "ANSIBLE_CONFIG": "ansible.cfg"})
    if done.returncode:
        raise NodeError(
            "site.yml failed; the failed task is shown above. When the problem is fixed, `make demo` continues from "
            "here; `make demo-down` removes everything."
        )


def write_environment(port: int) -> None:
    """Write build/demo.env with a new password for the administrator."""
    answer = json.loads(on("web1", "channelbox", "first-password", "--reset", "--json"))
    values = {
        "CHANNELBOX_URL": f"https://127.0.0.1:{port}",
        "CHANNELBOX_WS_URL": f"wss://127.0.0.1:{port}",
        "CHANNELBOX_USER": answer["name"],
        "CHANNELBOX_PASSWORD": answer["password"],
        "CHANNELBOX_CA": str(CERTIFICATE),
    }
    ENV.touch(mode=0o600)
    ENV.write_text("".join(f"{name}={value}\n" for name, value in values.items()))


def environment() -> dict[str, str]:
    """Return the variables in build/demo.env."""
    return dict(line.split("=", 1) for line in ENV.read_text().splitlines())


def answers() -> bool:
    """Return whether the balancer of the demo and a web process behind it answer."""
    try:
        context = ssl.create_default_context(cafile=str(CERTIFICATE))
        with urllib.request.urlopen(
            f"{environment()['CHANNELBOX_URL']}/healthz", timeout=10, context=context
        ) as answer:
            return bool(answer.status == 200)
    except (OSError, KeyError, urllib.error.URLError):
        return False


def show() -> None:
    """Print the address of the demo and what to try."""
    values = environment()
    url = values["CHANNELBOX_URL"]
    node = "sudo molecule/shared/node exec demo" if os.environ.get("SUDO_USER") else "molecule/shared/node exec demo"
    print(f"""
channelbox is running on six nodes in containers.

  Address    {url}/   (self-signed certificate: the browser warns once)
  Name       {values["CHANNELBOX_USER"]}
  Password   {values["CHANNELBOX_PASSWORD"]}
  For programs: build/demo.env

Three things to try:
  1. Chat:  open {url}/chat/room/lobby/ in two windows, one of them private, and send messages.
  2. Scale: {node} worker1 systemctl enable --now channelbox-worker@3
     Stop:  {node} web1 systemctl stop channelbox-web@1      (its clients reconnect)
  3. Watch: {url}/chat/dashboard/ shows both within two seconds.

To remove the demo, run: make demo-down""")


def on(node: str, *command: str) -> str:
    """Run a command on a node of the demo as root and return its output; raise NodeError if it fails."""
    return podman("exec", container_name(NAME, node), *command)


def _published(node: Node) -> Node:
    if 443 not in node.ports:
        return node
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", FAVOURITE_PORT)) == 0
    return dataclasses.replace(node, ports={443: 0 if taken else FAVOURITE_PORT})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) == 2 else ""))
