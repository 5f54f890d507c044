"""The database of the cluster is dumped on its own node, and the dump can be read back."""

from probe.nodes import Nodes
from probe.people import Browser, Door, Member

PSQL = "cd /; runuser -u postgres -- psql -Atq"
COUNT = "SELECT count(*) FROM chat_event WHERE text = 'in the dump'"


async def test_a_dump_has_what_was_said_and_old_ones_go(nodes: Nodes, room: str, ann: Browser, web1: Door) -> None:
    async with Member(ann, room, web1) as member:
        await member.says("in the dump")
    assert "channelbox-postgresql-backup" in nodes.root("data1", "systemctl list-timers --no-legend 'channelbox-*'")
    folder = "/var/backups/channelbox"
    old = [f"channelbox-2026010{day}-031500.dump" for day in range(1, 10)]
    nodes.root("data1", f"cd {folder}; touch {' '.join(old)} channelbox-killed.dump.part")
    nodes.root("data1", "systemctl start channelbox-postgresql-backup.service")
    kept = nodes.root("data1", f"ls -1 {folder}").split()
    assert len(kept) == 7
    assert kept[:6] == old[3:]
    newest = f"{folder}/{kept[-1]}"
    assert nodes.root("data1", f"stat --format '%a %U' {newest}").split() == ["600", "postgres"]

    nodes.root("data1", f"{PSQL} -c 'CREATE DATABASE readback'")
    try:
        nodes.root("data1", f"cd /; runuser -u postgres -- pg_restore --exit-on-error --dbname readback {newest}")
        assert nodes.root("data1", f'{PSQL} -d readback -c "{COUNT}"').strip() == "1"
    finally:
        nodes.root("data1", f"{PSQL} -c 'DROP DATABASE readback'")
