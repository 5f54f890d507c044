"""A cluster of nodes in containers, installed by site.yml, with a variable number of web nodes in service.

All nodes and the load generator share the cores of this machine, so results show costs, not the capacity of a cluster.
"""

import asyncio
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.servers import free_port

from bench.generator import HOST, Address
from bench.peers.peer import tutorial_message
from bench.processes import children, command
from channelbox_client import Room

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
LEFT_OUT_SECONDS = 6.0  # a little longer than a load balancer avoids a node that did not answer
# Clients have no session here: each is a guest.
VARIABLES = {
    "CHANNELBOX_ROOM_CREATION": "anyone",
    "CHANNELBOX_RATE_ADDRESS": "100000",
    "CHANNELBOX_SOCKETS_ADDRESS": "100000",
}


class Nodes:
    """A peer whose processes run on nodes, which the first `start` creates. Needs root, and the packages (make deb)."""

    name = "channelbox"

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = {**VARIABLES, **variables}
        self._port = 0
        self._creating: asyncio.Task[None] | None = None
        self._found: dict[str, list[int]] = {}  # ids of processes by their kind

    async def start(self) -> None:
        """Create the nodes if there are none. Raises SystemExit with the reason if that or the installation fails."""
        if self._creating is None:
            self._creating = asyncio.create_task(asyncio.to_thread(self._create))
            try:
                await asyncio.shield(self._creating)
            except NodeError as error:
                raise SystemExit(str(error)) from None

    def _create(self) -> None:
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
        """Start the first `count` web nodes and stop the others."""
        for number, node in enumerate(WEB):
            verb = "start" if number < count else "stop"
            units = ["nginx.service", "channelbox-web.socket", "channelbox-web@1.service"]
            await asyncio.to_thread(podman, "exec", container_name(NAME, node), "systemctl", verb, *units)
        await asyncio.sleep(LEFT_OUT_SECONDS)
        self._found = await asyncio.to_thread(self._find_processes)

    async def restart(self) -> None:
        raise NotImplementedError("memory is measured on one machine")

    async def stop(self) -> None:
        """Remove the nodes, if any. Nodes that are still being created are removed when that is complete."""
        if self._creating is not None:
            await asyncio.wait([self._creating])
            await asyncio.to_thread(cluster.down, NAME)
            self._creating = None

    @property
    def address(self) -> Address:
        return Address(self._port, "/ws/chat/{room}/", tls=True, state=Room, encode=tutorial_message)

    def _find_processes(self) -> dict[str, list[int]]:
        """Return the ids of all processes, by kind.

        Asked once and kept, because asking podman during a run would cost more than what is measured.
        """
        services = [(pid, command(pid)) for node in (BALANCER, *WEB, *WORKERS, DATA) for pid in self._of(node)]
        kinds = {"web": "channelbox web", "worker": "channelbox worker", "database": "postgres"}
        found = {kind: [pid for pid, words in services if name in words] for kind, name in kinds.items()}
        return found | {"all": [pid for pid, words in services if "redis-server" not in words]}

    @staticmethod
    def _of(node: str) -> list[int]:
        """Return the ids of the processes that systemd has started on a node."""
        return children(inspect_container(container_name(NAME, node))["State"]["Pid"])

    @property
    def web(self) -> list[int]:
        return self._found["web"]

    @property
    def workers(self) -> list[int]:
        return self._found["worker"]

    @property
    def database(self) -> list[int]:
        return self._found["database"]

    @property
    def processes(self) -> list[int]:
        return self._found["all"]
