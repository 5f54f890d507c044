"""Sockets in the network of a node: a client then connects from that node, and its traffic cannot leave the cluster.

A socket stays in the network namespace in which it was created, so a short-lived thread enters the one of the node.
"""

import ctypes
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nodes.names import container_name
from nodes.podman import inspect_container

_CLONE_NEWNET = 0x40000000
_TIMEOUT = 10.0


def address(cluster: str, node: str) -> str:
    """Return the node's address on the cluster's network."""
    networks = inspect_container(container_name(cluster, node))["NetworkSettings"]["Networks"]
    found: str = next(iter(networks.values()))["IPAddress"]
    return found


def connect(cluster: str, node: str, target: str, port: int) -> socket.socket:
    """Open a TCP connection from a node to an address; raise OSError like any other connection."""

    def make() -> socket.socket:
        return socket.create_connection((target, port), timeout=_TIMEOUT)

    return _in_network_of(_pid(cluster, node), make)


def connect_unix(cluster: str, node: str, path: str) -> socket.socket:
    """Connect to a Unix socket of a node, as the node's nginx does."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(_TIMEOUT)
    # /run is mounted in the container only, so the path leads through the container's process 1.
    made.connect(f"/proc/{_pid(cluster, node)}/root{path}")
    return made


def _pid(cluster: str, node: str) -> int:
    pid: int = inspect_container(container_name(cluster, node))["State"]["Pid"]
    if not pid:
        raise ConnectionError(f"{node} is not running")
    return pid


def _in_network_of(pid: int, make: Callable[[], socket.socket]) -> socket.socket:
    def enter_and_make() -> socket.socket:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "cannot enter the node's network")
        finally:
            os.close(namespace)
        return make()

    # The thread ends with the pool, so nothing else ever runs in the node's network.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(enter_and_make).result()


def root_file(cluster: str, node: str, path: str) -> Path:
    """Return the path at which a file of a running node can be read on this machine."""
    return Path(f"/proc/{_pid(cluster, node)}/root{path}")
