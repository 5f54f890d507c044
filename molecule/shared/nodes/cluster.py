"""Clusters: containers that run systemd, on a network of their own, created and removed as a whole."""

import contextlib
import ipaddress
import shutil
import time
from collections.abc import Iterator

from . import access
from .image import ensure_image
from .names import container_name, network_name
from .paths import cluster_dir
from .plan import Node, Plan
from .podman import LABEL, containers_of, inspect_container, inspect_network, network_exists, podman
from .run import NodeError, say

_FIRST_ADDRESS = 10
_BOOT_SECONDS = 180.0
_REMOVALS = 5


def nodes_of(cluster: str) -> list[str]:
    """Return the names of the cluster's containers, running or not."""
    return containers_of(network_name(cluster))


def up(plan: Plan, volumes: list[str]) -> None:
    """Start the cluster's nodes and wait until each has booted and answers SSH. A failure leaves nothing behind."""
    if nodes_of(plan.cluster):
        raise NodeError(f"The cluster {plan.cluster!r} is there already; remove it first with: down {plan.cluster}")
    images = {release: ensure_image(release) for release in {node.release for node in plan.nodes}}
    with _removed_on_failure(plan.cluster):
        say(f"starting {len(plan.nodes)} node(s) of the cluster {plan.cluster!r}")
        podman("network", "create", network_name(plan.cluster))
        subnet = ipaddress.ip_network(inspect_network(network_name(plan.cluster))["subnets"][0]["subnet"])
        for number, node in enumerate(plan.nodes):
            _start(plan.cluster, node, images[node.release], str(subnet[_FIRST_ADDRESS + number]), volumes)
        for node in plan.nodes:
            wait_booted(plan.cluster, node.name)
        access.open_ssh(plan)
    say(f"the cluster {plan.cluster!r} is up; inventory: {cluster_dir(plan.cluster) / 'inventory.json'}")


def down(cluster: str) -> None:
    """Remove the cluster's containers, network and files. It is no error if there are none."""
    for attempt in range(1, _REMOVALS + 1):
        if not (containers := nodes_of(cluster)):
            break
        say(f"removing {len(containers)} node(s) of the cluster {cluster!r}")
        try:
            podman("rm", "--force", "--time", "0", "--volumes", *containers)
        except NodeError as error:
            # podman waits 5 s for a process that it has killed, which may take longer while it writes to a busy disk.
            if attempt == _REMOVALS or "did not die within timeout" not in str(error):
                raise
    if network_exists(network_name(cluster)):
        podman("network", "rm", "--force", network_name(cluster))
    shutil.rmtree(cluster_dir(cluster), ignore_errors=True)


def start(cluster: str) -> None:
    """Start nodes that are stopped, e.g. after a reboot of this machine, and wait until they have booted."""
    for container in nodes_of(cluster):
        if not inspect_container(container)["State"]["Running"]:
            say(f"starting {container}")
            podman("start", container)
            wait_booted(cluster, container.removeprefix(container_name(cluster, "")))


def restart(cluster: str, node: str, *, power_cut: bool = False) -> None:
    """Reboot a node, orderly or as after a power cut, and wait until it has booted."""
    name = container_name(cluster, node)
    podman("restart", "--time", "0" if power_cut else "60", name)
    wait_booted(cluster, node)


def wait_booted(cluster: str, node: str) -> None:
    """Wait until systemd reports that the node is running; raise NodeError with the failed units if it is not."""
    name = container_name(cluster, node)
    deadline = time.monotonic() + _BOOT_SECONDS
    state = "nothing"
    while time.monotonic() < deadline:
        with contextlib.suppress(NodeError):  # systemd does not answer yet
            state = podman("exec", name, "sh", "-c", "systemctl is-system-running --wait || true").strip()
        if state == "nothing" and not inspect_container(name)["State"]["Running"]:
            raise NodeError(f"{node} ended instead of booting:\n{podman('logs', '--tail', '20', name)}")
        if state == "running":
            return
        if state == "degraded":
            failed = podman("exec", name, "systemctl", "list-units", "--failed", "--no-legend", "--plain")
            raise NodeError(f"{node} booted, but units failed:\n{failed}")
        time.sleep(0.2)
    raise NodeError(f"{node} did not boot within {_BOOT_SECONDS:.0f} s (systemd says {state!r}).")


def ports(cluster: str, node: str) -> dict[int, int]:
    """Return the published ports of a node: port of the node -> port of 127.0.0.1."""
    found = inspect_container(container_name(cluster, node))["NetworkSettings"]["Ports"]
    return {int(port.partition("/")[0]): int(hosts[0]["HostPort"]) for port, hosts in found.items() if hosts}


def _start(cluster: str, node: Node, image: str, address: str, volumes: list[str]) -> None:
    podman(
        "run",
        "--detach",
        # Both options are needed because systemd mounts file systems as process 1, and Debian's hardened units create
        # namespaces.
        "--privileged",
        "--systemd=always",
        f"--name={container_name(cluster, node.name)}",
        f"--hostname={node.name}",
        f"--label={LABEL}={network_name(cluster)}",
        # Like a machine, a node keeps its MAC address over a reboot. With a new one, the other nodes would not reach it
        # for most of a minute.
        f"--network={network_name(cluster)}:ip={address},mac={_mac(address)},alias={node.name}",
        *(f"--publish=127.0.0.1:{here or ''}:{port}" for port, here in node.ports.items()),
        *(f"--volume={volume}" for volume in volumes),
        image,
    )


def _mac(address: str) -> str:
    """Return a locally administered MAC address, derived from the address on the cluster's network."""
    return "02:cb:" + ":".join(f"{byte:02x}" for byte in ipaddress.ip_address(address).packed)


@contextlib.contextmanager
def _removed_on_failure(cluster: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        down(cluster)
        raise
