"""Plan of a cluster: nodes with a release, groups and published ports, read from a file or from arguments."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .run import NodeError

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class Node:
    """One machine of a cluster."""

    name: str
    release: str
    groups: tuple[str, ...] = ()
    ports: dict[int, int] = field(default_factory=dict)
    """Ports of the node, each with the port of 127.0.0.1 that is forwarded to it; 0 means any free port."""


@dataclass(frozen=True)
class Plan:
    """A cluster: its name, its nodes and the Ansible variables of all of them."""

    cluster: str
    nodes: tuple[Node, ...]
    variables: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (self.cluster, *(node.name for node in self.nodes)):
            if not _NAME.fullmatch(name):
                raise NodeError(f"{name!r} cannot name a cluster or node: use small letters, digits and hyphens.")
        if not self.nodes:
            raise NodeError(f"The cluster {self.cluster!r} has no nodes.")


def from_file(cluster: str, path: Path) -> Plan:
    """Read a plan from TOML: a table for each node below [nodes], and [variables] for Ansible."""
    try:
        data = tomllib.loads(path.read_text())
        nodes = tuple(
            Node(name, entry["release"], tuple(entry.get("groups", ())), dict.fromkeys(entry.get("ports", ()), 0))
            for name, entry in data["nodes"].items()
        )
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise NodeError(f"{path} is no plan of a cluster: {error!r}") from error
    return Plan(cluster, nodes, data.get("variables", {}))


def from_arguments(cluster: str, texts: list[str]) -> Plan:
    """Read a plan from NAME:RELEASE[:GROUP,GROUP...] for each node."""
    nodes = []
    for text in texts:
        name, _, rest = text.partition(":")
        release, _, groups = rest.partition(":")
        nodes.append(Node(name, release, tuple(group for group in groups.split(",") if group)))
    return Plan(cluster, tuple(nodes))
