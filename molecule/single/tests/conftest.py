"""The single node, and ways to connect to it from the node `desk`."""

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Door
from testinfra.host import Host


@pytest.fixture(scope="session")
def box(nodes: Nodes) -> Host:
    """A shell on the node, as root."""
    return nodes["box"]


@pytest.fixture(scope="session")
def door(nodes: Nodes) -> Door:
    return nodes.https("box", client="desk")


@pytest.fixture(scope="session")
def plain_door(nodes: Nodes) -> Door:
    return nodes.http("box", client="desk")


@pytest.fixture(scope="session")
def admin(nodes: Nodes, door: Door) -> Browser:
    """The first administrator, signed in with the password that the node printed."""
    answer = nodes.root("box", "channelbox first-password --reset")
    words = dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)
    browser = Browser(door)
    browser.sign_in(words["Name"].strip(), words["Password"].strip())
    return browser
