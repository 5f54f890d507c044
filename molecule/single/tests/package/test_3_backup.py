"""The database is backed up while the node runs, and restored from the backup."""

from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Member
from testinfra.host import Host


def test_database_is_backed_up_nightly(nodes: Nodes, box: Host) -> None:
    assert box.service("channelbox-backup.timer").is_enabled
    assert "channelbox-backup" in nodes.root("box", "systemctl list-timers --no-legend 'channelbox-*'")
    nodes.root("box", "systemctl start channelbox-backup.service")
    assert nodes.root("box", "ls /var/lib/channelbox/backups/*.sqlite3")


async def test_restoring_a_backup_brings_back_its_messages(
    nodes: Nodes, admin: Browser, endpoint: Endpoint, room: str
) -> None:
    browser = Member(admin, room, endpoint)
    async with browser:
        await browser.send("before the copy")
        copy = nodes.root("box", "channelbox backup").split()[0]
        await browser.send("after the copy")
    refused = nodes["box"].run(f"channelbox restore {copy}")
    assert refused.rc == 1
    assert "systemctl stop channelbox.target" in refused.stderr
    nodes.root("box", "systemctl stop channelbox.target")
    output = nodes.root("box", f"channelbox restore {copy}")
    assert "channelbox.target" in output
    nodes.root("box", "systemctl start channelbox.target")
    async with Member(admin, room, endpoint) as newcomer:
        await newcomer.send("after the restore")
        assert list(newcomer.messages.values()) == ["before the copy", "after the restore"]
    nodes.root("box", "rm /var/lib/channelbox/db.sqlite3.until-*")
