"""Everything recovers by itself when the database comes late after a power cut, or when it is killed."""

import asyncio
import os

from nodes.names import container_name
from nodes.podman import podman
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Member
from probe.waiting import until

LATE_SECONDS = float(os.environ.get("LATE_SECONDS", "65"))
"""300 was tried by hand. Beyond 60, the migrations once gave up."""

UNITS = {
    "web1": ["channelbox-migrate", "channelbox-web@1", "channelbox-web@2"],
    "worker1": ["channelbox-migrate", "channelbox-worker@1", "channelbox-worker@2"],
}
READY_SECONDS = 60


def postgresql(nodes: Nodes) -> str:
    """Return the unit of the database on its node."""
    return nodes.root("data1", "systemctl list-units --plain --no-legend 'postgresql@*' | cut -d ' ' -f 1").strip()


async def test_nodes_start_once_a_late_database_is_available(
    nodes: Nodes, room: str, alice: Browser, web1: Endpoint
) -> None:
    database = postgresql(nodes)
    nodes.root("data1", f"systemctl stop {database}")
    try:
        for node in UNITS:
            podman("restart", "--time", "0", container_name(nodes.cluster, node))
        await asyncio.sleep(LATE_SECONDS)
    finally:
        nodes.root("data1", f"systemctl start {database}")
    for node, units in UNITS.items():

        def up(node: str = node, units: list[str] = units) -> bool:
            return set(nodes[node].run(f"systemctl is-active {' '.join(units)}").stdout.split()) == {"active"}

        await until(up, READY_SECONDS, f"every unit of {node} runs")
    async with Member(alice, room, web1) as member:
        await member.send("here again")


async def test_chat_recovers_after_postgresql_is_killed(nodes: Nodes, two_members: tuple[Member, Member]) -> None:
    first, second = two_members
    database = postgresql(nodes)
    before = nodes.main_pid("data1", database)
    nodes.root("data1", f"systemctl kill --signal=KILL --kill-who=main {database}")
    await until(lambda: nodes.has_new_process("data1", database, before), READY_SECONDS, "PostgreSQL runs again")
    await first.send("after it", within=READY_SECONDS)
    await second.wait_for("after it", within=READY_SECONDS)
