"""The nodes of one cluster: their shells, the ways to connect to them, and the processes that they report."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import testinfra
from nodes import cluster as containers
from nodes.names import container_name
from nodes.paths import cluster_dir
from testinfra.host import Host

from . import network
from .people import Endpoint

_CERTIFICATE = "/etc/channelbox/tls/cert.pem"


@dataclass(frozen=True)
class Nodes:
    """A running cluster; `nodes["web1"]` is a testinfra host, as root."""

    cluster: str

    def __getitem__(self, node: str) -> Host:
        return testinfra.get_host(f"podman://{container_name(self.cluster, node)}")

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The names of the nodes, by inventory group."""
        inventory = json.loads((cluster_dir(self.cluster) / "inventory.json").read_text())
        return {name: sorted(group["hosts"]) for name, group in inventory["all"]["children"].items()}

    def root(self, node: str, command: str) -> str:
        """Run a command on a node as root and return its output; fail with the output if the command fails."""
        done = self[node].run(command)
        assert done.rc == 0, f"on {node}: {command}\n{done.stdout}\n{done.stderr}"
        output: str = done.stdout
        return output

    def restart(self, node: str, *, power_cut: bool = False) -> None:
        """Reboot a node and wait until it has booted."""
        containers.restart(self.cluster, node, power_cut=power_cut)

    def https(self, node: str, client: str, host: str | None = None) -> Endpoint:
        """Return the way from a client's node to port 443 of a node. `host` is the host name, by default the node's.

        The certificate of the node is trusted.
        """
        certificate = self.root(node, f"cat {_CERTIFICATE}")
        target = network.address(self.cluster, node)
        return Endpoint(lambda: network.connect(self.cluster, client, target, 443), host or node, certificate)

    def http(self, node: str, client: str) -> Endpoint:
        """Return the way from a client's node to port 80 of a node, without TLS."""
        target = network.address(self.cluster, node)
        return Endpoint(lambda: network.connect(self.cluster, client, target, 80), node)

    def behind_balancer(self, node: str, balancer: str) -> Endpoint:
        """Return the way from the balancer to a web node, with requests as the balancer sends them."""
        target = network.address(self.cluster, node)
        return Endpoint(lambda: network.connect(self.cluster, balancer, target, 8080), balancer)

    def status(self, node: str) -> list[dict[str, Any]]:
        """Return the processes of the whole cluster, as this node reports them."""
        found: list[dict[str, Any]] = json.loads(self.root(node, "channelbox status --json"))
        return found

    def main_pid(self, node: str, unit: str) -> int:
        """Return the ID of the unit's main process; 0 if it does not run."""
        return int(self.root(node, f"systemctl show --property=MainPID --value {unit}"))

    def has_new_process(self, node: str, unit: str, before: int) -> bool:
        """Return whether the unit runs with another main process, which is ready if it says so (Type=notify)."""
        return self.main_pid(node, unit) not in (0, before) and self.active(node, unit)

    def active(self, node: str, unit: str) -> bool:
        running: bool = self[node].run(f"systemctl is-active --quiet {unit}").rc == 0
        return running
