"""Names of containers and networks. They contain the checkout and the cluster, so that none ever collide."""

import hashlib

from .paths import ROOT

_CHECKOUT = hashlib.sha256(str(ROOT).encode()).hexdigest()[:4]


def container_name(cluster: str, node: str) -> str:
    """Return the name of a node's container."""
    return f"{network_name(cluster)}-{node}"


def network_name(cluster: str) -> str:
    """Return the name of a cluster's network."""
    return f"cb-{_CHECKOUT}-{cluster}"
