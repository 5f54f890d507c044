"""Runs of site.yml with the nodes' inventory and a folder of packages, and a check that nothing was written."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes.paths import cluster_dir
from probe.nodes import Nodes
from probe.site import Run, site

INSTALLED = "find /etc /opt /usr /var/lib/dpkg -xdev -type f -printf '%p %C@\\n' | sort | sha256sum"
"""Its output changes whenever a file is written or replaced or gets another mode."""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with empty packages: the preflight looks at their names only."""
    folder = tmp_path_factory.mktemp("deb")
    for release in ("deb12", "deb13"):
        (folder / f"channelbox_0.1.0~{release}_amd64.deb").touch()
    return folder


@pytest.fixture
def run(nodes: Nodes, packages: Path) -> Callable[..., Run]:
    """Return a function that runs site.yml on the nodes."""

    def run(*arguments: str, **variables: Any) -> Run:
        inventory = cluster_dir(nodes.cluster) / "inventory.json"
        return site(inventory, *arguments, **{"channelbox_deb_dir": str(packages), **variables})

    return run


@pytest.fixture
def written(nodes: Nodes) -> Callable[[], dict[str, str]]:
    """Return a function that gives a checksum of all files for each node."""
    return lambda: {node: nodes.root(node, INSTALLED) for node in ("door", "data")}


@pytest.fixture
def refused(run: Callable[..., Run], written: Callable[[], dict[str, str]]) -> Iterator[Callable[..., str]]:
    """Return a function that runs site.yml, asserts that it stops with nothing changed, and returns the output."""

    def refused(**variables: Any) -> str:
        before = written()
        result = run(**variables)
        assert result.code != 0, result.output
        assert set(result.changed.values()) <= {0}, result.output
        assert "Prepare every node" not in result.output
        assert written() == before
        return result.words

    yield refused
