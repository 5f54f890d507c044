"""Doors of the cluster and people who have signed in through the balancer."""

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Door

PASSWORD = "correct horse battery staple"
CLIENT = "data1"
"""Where people sit: a node that no test restarts, on the other side of the balancer."""


@pytest.fixture(scope="session")
def balancer(nodes: Nodes) -> Door:
    return nodes.https("lb1", client=CLIENT)


@pytest.fixture(scope="session")
def web1(nodes: Nodes) -> Door:
    return nodes.behind_balancer("web1", balancer="lb1")


@pytest.fixture(scope="session")
def web2(nodes: Nodes) -> Door:
    return nodes.behind_balancer("web2", balancer="lb1")


def _signed_in(nodes: Nodes, balancer: Door, name: str) -> Browser:
    known = [line.split()[0] for line in nodes.root("web1", "channelbox user list").splitlines() if line.strip()]
    verb = "password" if name in known else "add"  # the tests may be run again on the same cluster
    nodes.root("web1", f"printf %s '{PASSWORD}' | channelbox user {verb} {name} --password-stdin")
    browser = Browser(balancer)
    browser.sign_in(name, PASSWORD)
    return browser


@pytest.fixture(scope="session")
def ann(nodes: Nodes, balancer: Door) -> Browser:
    return _signed_in(nodes, balancer, "ann")


@pytest.fixture(scope="session")
def bob(nodes: Nodes, balancer: Door) -> Browser:
    return _signed_in(nodes, balancer, "bob")
