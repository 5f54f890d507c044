"""One Redis host becomes three with Sentinel during a chat, and the master fails. Runs last: it is not undone."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from nodes.paths import cluster_dir
from probe.nodes import Nodes
from probe.people import Member
from probe.site import Run
from probe.speaker import RECOVERED_WITHIN, Speaker, assert_chat_survives
from probe.waiting import until

FIRST = "data1"
ADDED = ("worker1", "web2")  # of the same release as the first: a replica cannot follow a newer Redis
HOSTS = (FIRST, *ADDED)
CLIENT = "REDISCLI_AUTH=$(grep -oP '^requirepass \\K.*' /etc/redis/channelbox.conf) redis-cli --raw"


@pytest.fixture(scope="module")
def inventory(nodes: Nodes) -> Path:
    """The cluster's inventory with three Redis hosts, in the same folder and so with the same secrets."""
    inventory = json.loads((cluster_dir(nodes.cluster) / "inventory.json").read_text())
    inventory["all"]["children"]["redis"]["hosts"].update({node: {} for node in ADDED})
    path = cluster_dir(nodes.cluster) / "three-redis-hosts.json"
    path.write_text(json.dumps(inventory))
    return path


def master(nodes: Nodes, node: str) -> str:
    """Return the node that this node's Sentinel considers the master; empty while it knows none."""
    answer = nodes.root(node, f"{CLIENT} -p 26379 sentinel get-master-addr-by-name channelbox").split()
    return next((host for host in HOSTS if answer and answer[0] in nodes.root(host, "hostname -I").split()), "")


def healthy(nodes: Nodes, expected: str = "") -> str:
    """Return the master's name once all three Sentinels agree on it and its two replicas follow; empty before."""
    masters = {master(nodes, node) for node in HOSTS}
    found = masters.pop()
    if masters or not found or found != (expected or found):
        return ""
    replication = nodes.root(found, f"{CLIENT} info replication")
    agree = all(
        "num-other-sentinels\n2\n" in nodes.root(node, f"{CLIENT} -p 26379 sentinel master channelbox")
        for node in HOSTS
    )
    return found if agree and "role:master" in replication and replication.count("state=online") == 2 else ""


async def test_growing_to_three_redis_hosts_loses_no_message(
    nodes: Nodes, inventory: Path, run: Callable[..., Run], two_members: tuple[Member, Member]
) -> None:
    first, second = two_members
    speaker, other = Speaker(first, 1.0), Speaker(second, 1.0)
    running = [asyncio.create_task(each.run()) for each in (speaker, other)]
    grown = await asyncio.to_thread(run, inventory=inventory)
    await asyncio.gather(speaker.stop(), other.stop())
    await asyncio.gather(*running)
    assert grown.code == 0, grown.output
    await until(lambda: first.messages == second.messages, RECOVERED_WITHIN, "both have received the same")
    assert list(first.messages) == list(range(1, len(first.messages) + 1))
    assert sorted(first.messages.values()) == sorted(speaker.texts + other.texts)
    for node in nodes.groups["web"] + nodes.groups["worker"]:
        assert "CHANNELBOX_REDIS_SENTINELS=" in nodes.root(node, "cat /etc/channelbox/channelbox.env")
    assert await until(lambda: healthy(nodes), RECOVERED_WITHIN, "three Sentinels agree") == FIRST


async def test_a_replica_becomes_master_and_chat_continues(
    nodes: Nodes, inventory: Path, run: Callable[..., Run], two_members: tuple[Member, Member]
) -> None:
    first, second = two_members
    speaker = await assert_chat_survives(first, second, lambda: nodes.root(FIRST, "systemctl stop redis-server"))
    assert list(second.messages.values()) == speaker.texts
    now = await asyncio.to_thread(master, nodes, ADDED[0])
    assert now in ADDED

    # The former master comes back as a replica, and site.yml keeps it one.
    await asyncio.to_thread(nodes.root, FIRST, "systemctl start redis-server")
    await until(lambda: healthy(nodes, now), RECOVERED_WITHIN, "the first master follows the new one")
    again = await asyncio.to_thread(run, "--tags", "redis,app", inventory=inventory)
    assert again.code == 0, again.output
    assert set(again.changed.values()) == {0}, again.output
    assert healthy(nodes, now)
