"""A cluster of nodes in containers, installed by site.yml, of whose web nodes some are in service.

All share this machine's cores with the load generator: costs are what can be compared, not what a cluster can do.
"""

import asyncio
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.servers import free_port

from bench.generator import HOST, Address
from bench.peers.peer import as_the_tutorial
from bench.processes import children, command

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from nodes import cluster  # noqa: E402
from nodes.machine import prepare  # noqa: E402
from nodes.names import container_name  # noqa: E402
from nodes.paths import cluster_dir  # noqa: E402
from nodes.plan import from_file  # noqa: E402
from nodes.podman import inspect_container, podman  # noqa: E402
from nodes.run import NodeError, say  # noqa: E402
from probe.site import site  # noqa: E402

NAME = "growth"
BALANCER, DATA = "lb1", "data1"
WEB = ("web1", "web2", "web3", "web4")
WORKERS = ("worker1",)
LEFT_OUT_SECONDS = 6.0  # for which a balancer asks no node that did not answer, and a little more
# Clients have no session here: each is a guest of its own.
VARIABLES = {
    "CHANNELBOX_ROOM_CREATION": "anyone",
    "CHANNELBOX_RATE_ADDRESS": "100000",
    "CHANNELBOX_SOCKETS_ADDRESS": "100000",
}


class Nodes:
    """A peer whose processes are on nodes. Made at the first `start`; needs root, and the packages (make deb)."""

    name = "channelbox"

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = {**VARIABLES, **variables}
        self._port = 0

    async def start(self) -> None:
        """Raises SystemExit, with the reason, where nodes cannot be made or installed."""
        if not self._port:
            try:
                await asyncio.to_thread(self._make)
            except NodeError as error:
                raise SystemExit(str(error)) from None

    def _make(self) -> None:
        prepare()
        cluster.down(NAME)
        port = free_port()
        plan = from_file(NAME, Path(__file__).with_name("nodes.toml"))
        nodes = tuple(dataclasses.replace(node, ports={443: port} if node.ports else {}) for node in plan.nodes)
        cluster.up(dataclasses.replace(plan, nodes=nodes), volumes=[])
        self._port = port
        say("installing channelbox on them with ansible/site.yml")
        origins = {"CHANNELBOX_ORIGINS": f"https://{HOST}:{port},http://{HOST}"}
        run = site(cluster_dir(NAME) / "inventory.json", channelbox_settings={**self._variables, **origins})
        if run.code:
            raise NodeError(f"site.yml did not finish:\n{run.output}")

    async def serve(self, count: int) -> None:
        """Has the first `count` web nodes in service, and the others not."""
        for number, node in enumerate(WEB):
            verb = "start" if number < count else "stop"
            units = ["nginx.service", "channelbox-web.socket", "channelbox-web@1.service"]
            await asyncio.to_thread(podman, "exec", container_name(NAME, node), "systemctl", verb, *units)
        await asyncio.sleep(LEFT_OUT_SECONDS)

    async def renew(self) -> None:
        raise NotImplementedError("memory is measured on one machine")

    async def stop(self) -> None:
        """Removes the nodes, if there are any."""
        if self._port:
            await asyncio.to_thread(cluster.down, NAME)
            self._port = 0

    @property
    def address(self) -> Address:
        return Address(self._port, "/ws/chat/{room}/", tls=True, welcome=b'"welcome"', said=as_the_tutorial)

    def _services(self, *nodes: str) -> Iterator[tuple[int, str]]:
        """Id and command of what systemd runs on these nodes."""
        for node in nodes:
            init = inspect_container(container_name(NAME, node))["State"]["Pid"]
            for pid in children(init):
                yield pid, command(pid)

    @property
    def web(self) -> list[int]:
        return [pid for pid, words in self._services(*WEB) if "channelbox web" in words]

    @property
    def workers(self) -> list[int]:
        return [pid for pid, words in self._services(*WORKERS) if "channelbox worker" in words]

    @property
    def database(self) -> list[int]:
        return [pid for pid, words in self._services(DATA) if "postgres" in words]

    @property
    def processes(self) -> list[int]:
        services = self._services(BALANCER, *WEB, *WORKERS, DATA)
        return [pid for pid, words in services if "redis-server" not in words]
