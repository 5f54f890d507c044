"""Endpoints of the cluster, and users who have signed in through the balancer."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from nodes.paths import cluster_dir
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Member
from probe.site import Run, site

PASSWORD = "correct horse battery staple"
CLIENT = "data1"
"""The node from which clients connect to the balancer."""


@pytest.fixture(scope="session")
def balancer(nodes: Nodes) -> Endpoint:
    return nodes.https("lb1", client=CLIENT)


@pytest.fixture(scope="session")
def web1(nodes: Nodes) -> Endpoint:
    return nodes.behind_balancer("web1", balancer="lb1")


@pytest.fixture(scope="session")
def web2(nodes: Nodes) -> Endpoint:
    return nodes.behind_balancer("web2", balancer="lb1")


def _signed_in(nodes: Nodes, balancer: Endpoint, name: str) -> Browser:
    known = [line.split()[0] for line in nodes.root("web1", "channelbox user list").splitlines() if line.strip()]
    verb = "password" if name in known else "add"  # the tests may run again on the same cluster
    nodes.root("web1", f"printf %s '{PASSWORD}' | channelbox user {verb} {name} --password-stdin")
    browser = Browser(balancer)
    browser.sign_in(name, PASSWORD)
    return browser


@pytest.fixture(scope="session")
def alice(nodes: Nodes, balancer: Endpoint) -> Browser:
    return _signed_in(nodes, balancer, "alice")


@pytest.fixture(scope="session")
def bob(nodes: Nodes, balancer: Endpoint) -> Browser:
    return _signed_in(nodes, balancer, "bob")


@pytest.fixture
async def two_members(
    room: str, alice: Browser, bob: Browser, web1: Endpoint, web2: Endpoint
) -> AsyncIterator[tuple[Member, Member]]:
    """Two members of one room, each on a different web node."""
    async with Member(alice, room, web1) as first, Member(bob, room, web2) as second:
        yield first, second


@pytest.fixture
def run(nodes: Nodes) -> Callable[..., Run]:
    """Return a function that runs site.yml on the cluster, with its inventory unless another one is given."""

    def run(*arguments: str, inventory: Path | None = None, **variables: Any) -> Run:
        return site(inventory or cluster_dir(nodes.cluster) / "inventory.json", *arguments, **variables)

    return run
