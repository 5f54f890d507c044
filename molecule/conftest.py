"""Fixtures that the tests of every scenario share: the nodes of the scenario and a room."""

import os
import uuid

import pytest
from probe.nodes import Nodes


@pytest.fixture(scope="session")
def nodes() -> Nodes:
    """The nodes of this scenario."""
    return Nodes(os.environ["NODES_CLUSTER"])


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """A room that no other test uses, named after this one."""
    return f"{request.node.name.split('[')[0].removeprefix('test_')[:40]}-{uuid.uuid4().hex[:6]}"
