"""The database of the cluster is dumped on its own node, and can be restored from a dump."""

from collections.abc import Iterator

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Member
from probe.waiting import until

TIMER = "postgresql-channelbox-backup.timer"
FOLDER = "/var/backups/channelbox"


@pytest.fixture
def no_dumps(nodes: Nodes) -> Iterator[None]:
    nodes.root("data1", f"systemctl stop {TIMER}; rm -f {FOLDER}/*")
    yield
    nodes.root("data1", f"systemctl start {TIMER}")


def new_dump(nodes: Nodes) -> str:
    nodes.root("data1", f"systemctl start {TIMER.replace('timer', 'service')}")
    return FOLDER + "/" + nodes.root("data1", f"ls -1 {FOLDER}").split()[-1]


def test_database_is_dumped_nightly_and_old_dumps_are_deleted(nodes: Nodes, no_dumps: None) -> None:
    assert nodes["data1"].service(TIMER).is_enabled
    old = [f"channelbox-2026010{day}-031500.dump" for day in range(1, 10)]
    nodes.root("data1", f"cd {FOLDER}; touch {' '.join(old)} channelbox-killed.dump.part")
    dump = new_dump(nodes)
    kept = nodes.root("data1", f"ls -1 {FOLDER}").split()
    assert kept[:-1] == old[3:]
    assert nodes.root("data1", f"stat --format '%a %U' {dump}").split() == ["600", "postgres"]


async def test_restoring_a_dump_brings_back_its_messages(
    nodes: Nodes, no_dumps: None, room: str, alice: Browser, web1: Endpoint
) -> None:
    async with Member(alice, room, web1) as member:
        await member.send("before the dump")
        dump = new_dump(nodes)
        await member.send("after the dump")
    channelbox = sorted({*nodes.groups["web"], *nodes.groups["worker"]})
    for node in channelbox:
        nodes.root(node, "systemctl stop channelbox.target 'channelbox-web@*' 'channelbox-worker@*'")
    try:
        restore = f"pg_restore --clean --if-exists --create --exit-on-error --dbname postgres {dump}"
        nodes.root("data1", f"cd /; runuser -u postgres -- {restore}")
    finally:
        for node in channelbox:
            nodes.root(node, "systemctl start channelbox.target")
    await until(lambda: len(nodes.status("web1")) == 8, 30, "every process is in the report again")
    async with Member(alice, room, web1) as member:
        await member.send("after the restore")
        assert list(member.messages.values()) == ["before the dump", "after the restore"]
