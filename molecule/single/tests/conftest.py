"""The single node, and endpoints through which clients on the node `desk` connect to it."""

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Endpoint
from testinfra.host import Host


@pytest.fixture(scope="session")
def box(nodes: Nodes) -> Host:
    """A shell on the node, as root."""
    return nodes["box"]


@pytest.fixture(scope="session")
def endpoint(nodes: Nodes) -> Endpoint:
    return nodes.https("box", client="desk")


@pytest.fixture(scope="session")
def http_endpoint(nodes: Nodes) -> Endpoint:
    return nodes.http("box", client="desk")


@pytest.fixture(scope="session")
def admin(nodes: Nodes, endpoint: Endpoint) -> Browser:
    """The first administrator, signed in with the password that the node printed."""
    answer = nodes.root("box", "channelbox first-password --reset")
    words = dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)
    browser = Browser(endpoint)
    browser.sign_in(words["Name"].strip(), words["Password"].strip())
    return browser
