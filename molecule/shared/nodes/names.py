"""How containers and networks are called: clusters never collide because their name is part of it."""


def container_name(cluster: str, node: str) -> str:
    """The container of a node."""
    return f"cb-{cluster}-{node}"


def network_name(cluster: str) -> str:
    """The network of a cluster."""
    return f"cb-{cluster}"
