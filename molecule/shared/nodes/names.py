"""How containers and networks are called: clusters and checkouts never collide because both are part of the name."""

import hashlib

from .paths import ROOT

_CHECKOUT = hashlib.sha256(str(ROOT).encode()).hexdigest()[:4]


def container_name(cluster: str, node: str) -> str:
    """The container of a node."""
    return f"{network_name(cluster)}-{node}"


def network_name(cluster: str) -> str:
    """The network of a cluster."""
    return f"cb-{_CHECKOUT}-{cluster}"
