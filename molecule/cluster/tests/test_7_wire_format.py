"""Installation with site.yml of a version whose processes cannot communicate with those that run."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from probe.nodes import Nodes
from probe.people import Member
from probe.site import Run

PROCESSES = (
    "systemctl list-units --plain --no-legend --state=active 'channelbox-web@*' 'channelbox-worker@*' | cut -d ' ' -f 1"
)

# Makes the node look as if an older version ran, which did not record the number of its wire format.
OLDER = (
    "sed -i '/^Package: channelbox$/,/^$/s/^Version: .*/Version: 0.0.9/' /var/lib/dpkg/status && "
    "rm /etc/channelbox/.wire-format"
)


def times(nodes: Nodes, name: str) -> list[int]:
    """Return this timestamp of every web process and worker. All nodes share the monotonic clock of the machine."""
    shown = [
        nodes.root(node, f"systemctl show --property={name} --value $({PROCESSES})").split()
        for node in nodes.groups["web"] + nodes.groups["worker"]
    ]
    assert all(len(values) >= 2 for values in shown)
    return [int(value) for values in shown for value in values]


@pytest.fixture
def restored(run: Callable[..., Run]) -> Iterator[None]:
    """Bring all nodes back to this version after the test, whether it passed or not."""
    yield
    assert run("--tags", "app,web,worker").code == 0


@pytest.mark.usefixtures("restored")
async def test_changing_wire_format_stops_all_nodes_before_starting_any(
    nodes: Nodes, run: Callable[..., Run], two_members: tuple[Member, Member]
) -> None:
    first, second = two_members
    await first.send("before")
    for node in nodes.groups["web"] + nodes.groups["worker"]:
        nodes.root(node, OLDER)
    left_out = await asyncio.to_thread(run, "--tags", "app,web,worker", "--limit", "!worker1")
    assert left_out.code != 0
    assert "Run without --limit" in left_out.words
    upgraded = await asyncio.to_thread(run, "--tags", "app,web,worker")
    assert upgraded.code == 0, upgraded.output
    assert max(times(nodes, "InactiveEnterTimestampMonotonic")) < min(times(nodes, "ExecMainStartTimestampMonotonic"))
    for member in two_members:
        await member.enter()
    await first.send("after")
    await second.wait_for("after")
    assert list(second.messages.values()) == ["before", "after"]
    # The running processes are of this version now, so nothing is stopped again.
    again = await asyncio.to_thread(run, "--tags", "app,web,worker")
    assert set(again.changed.values()) == {0}, again.output
