"""Installing again and upgrading: settings and what was said stay, and nobody has to do anything."""

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Door, Member

NEWER = "channelbox-newer.deb"


async def test_installing_it_again_changes_nothing(nodes: Nodes) -> None:
    before = nodes.root("box", "cat /etc/channelbox/channelbox.env /etc/channelbox/tls/cert.pem")
    nodes.root("box", "apt-get -q install --yes --reinstall /root/channelbox.deb < /dev/null")
    assert nodes.root("box", "cat /etc/channelbox/channelbox.env /etc/channelbox/tls/cert.pem") == before
    assert nodes.active("box", "channelbox-web@1")


@pytest.fixture
def newer(nodes: Nodes) -> str:
    """The same package with a higher version."""
    repack = (
        "cd /root && rm -rf newer && dpkg-deb --raw-extract channelbox.deb newer && "
        "sed -i '/^Version:/s/~/+newer~/' newer/DEBIAN/control && "
        f"dpkg-deb --root-owner-group -Znone --build newer {NEWER} && rm -rf newer"
    )
    nodes.root("box", repack)
    return f"/root/{NEWER}"


async def test_an_upgrade_keeps_settings_enabled_instances_and_what_was_said(
    nodes: Nodes, newer: str, room: str, admin: Browser, door: Door
) -> None:
    nodes.root("box", "echo CHANNELBOX_OPERATOR=Harbour office >> /etc/channelbox/channelbox.env")
    nodes.root("box", "systemctl enable --now channelbox-worker@2")
    before = nodes.main_pid("box", "channelbox-web@1")
    member = Member(admin, room, door)
    async with member:
        await member.says("before the upgrade")
        nodes.root("box", f"apt-get -q install --yes {newer} < /dev/null")
    assert "+newer" in nodes.root("box", "dpkg-query --show channelbox")
    assert nodes.main_pid("box", "channelbox-web@1") not in (0, before)
    assert "Harbour office" in nodes.root("box", "cat /etc/channelbox/channelbox.env")
    assert nodes.active("box", "channelbox-worker@2")
    async with member:
        await member.says("after it")
    assert list(member.messages.values()) == ["before the upgrade", "after it"]


def test_after_a_reboot_everything_runs(nodes: Nodes, admin: Browser) -> None:
    nodes.restart("box")
    for unit in ("channelbox-web@1", "channelbox-worker@1", "channelbox-worker@2", "nginx"):
        assert nodes.active("box", unit), unit
    assert admin.request("GET", "/chat/")[0] == 200
