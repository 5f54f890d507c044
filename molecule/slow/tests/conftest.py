"""The slow node."""

import pytest
from probe.nodes import Nodes
from testinfra.host import Host


@pytest.fixture(scope="session")
def box(nodes: Nodes) -> Host:
    """A shell on the node, as root."""
    return nodes["box"]
