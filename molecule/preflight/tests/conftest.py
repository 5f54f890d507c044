"""Nodes as they were before, an inventory that fits them, and a folder with packages for them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes.paths import cluster_dir
from probe.nodes import Nodes
from probe.site import Run, site

INSTALLED = "find /etc /opt /usr /var/lib/dpkg -xdev -type f -printf '%p %C@\\n' | sort | sha256sum"
"""Changes with every file that is written, replaced or given another mode."""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages by name alone: the preflight does not open them."""
    folder = tmp_path_factory.mktemp("deb")
    for release in ("deb12", "deb13"):
        (folder / f"channelbox_0.1.0~{release}_amd64.deb").touch()
    return folder


@pytest.fixture
def run(nodes: Nodes, packages: Path) -> Callable[..., Run]:
    """Runs site.yml over the nodes; `check` stops it after the preflight."""

    def run(*arguments: str, **variables: Any) -> Run:
        inventory = cluster_dir(nodes.cluster) / "inventory.json"
        return site(inventory, *arguments, **{"channelbox_deb_dir": str(packages), **variables})

    return run


@pytest.fixture
def written(nodes: Nodes) -> Callable[[], dict[str, str]]:
    """What is written on each node, as something to compare."""
    return lambda: {node: nodes.root(node, INSTALLED) for node in ("door", "data")}


@pytest.fixture
def refused(run: Callable[..., Run], written: Callable[[], dict[str, str]]) -> Iterator[Callable[..., str]]:
    """Runs the whole of site.yml, sees that it stops with nothing changed on any node, and gives what it said."""

    def refused(**variables: Any) -> str:
        before = written()
        result = run(**variables)
        assert result.code != 0, result.output
        assert set(result.changed.values()) <= {0}, result.output
        assert "Prepare every node" not in result.output
        assert written() == before
        return result.words

    yield refused
