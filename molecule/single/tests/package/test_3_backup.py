"""The database is copied while people talk, and restored from the copy."""

from probe.nodes import Nodes
from probe.people import Browser, Door, Member
from testinfra.host import Host


def test_it_is_copied_every_night(nodes: Nodes, box: Host) -> None:
    assert box.service("channelbox-backup.timer").is_enabled
    assert "channelbox-backup" in nodes.root("box", "systemctl list-timers --no-legend 'channelbox-*'")
    nodes.root("box", "systemctl start channelbox-backup.service")
    assert nodes.root("box", "ls /var/lib/channelbox/backups/*.sqlite3")


async def test_a_copy_is_put_back_with_what_was_said_until_then(
    nodes: Nodes, admin: Browser, door: Door, room: str
) -> None:
    browser = Member(admin, room, door)
    async with browser:
        await browser.says("before the copy")
        copy = nodes.root("box", "channelbox backup").split()[0]
        await browser.says("after the copy")
    refused = nodes["box"].run(f"channelbox restore {copy}")
    assert refused.rc == 1
    assert "systemctl stop channelbox.target" in refused.stderr
    nodes.root("box", "systemctl stop channelbox.target")
    told = nodes.root("box", f"channelbox restore {copy}")
    assert "channelbox.target" in told
    nodes.root("box", "systemctl start channelbox.target")
    async with Member(admin, room, door) as newcomer:
        await newcomer.says("after the restore")
        assert list(newcomer.messages.values()) == ["before the copy", "after the restore"]
    nodes.root("box", "rm /var/lib/channelbox/db.sqlite3.until-*")
