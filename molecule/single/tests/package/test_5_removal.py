"""Removing the package keeps settings and data; purging it leaves nothing. The node is bare afterwards."""

from probe.nodes import Nodes
from testinfra.host import Host

OURS = "find / -xdev -not -path '/root/*' -not -path '/proc/*' -not -path '/sys/*' -iname '*channelbox*'"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -q --yes"


def _command_of_nginx(nodes: Nodes) -> str:
    return nodes.root("box", "tr '\\0' ' ' < /proc/$(cat /run/nginx.pid)/cmdline")


def test_removing_stops_everything_and_keeps_settings_and_data(nodes: Nodes, box: Host) -> None:
    nodes.root("box", f"{APT} remove channelbox < /dev/null")
    nodes.root("box", "pgrep --uid channelbox; test $? = 1")  # 1: there is no such process
    for kept in ("/etc/channelbox/channelbox.env", "/var/lib/channelbox/db.sqlite3"):
        assert box.file(kept).exists
    nodes.root("box", "nginx -t")
    assert nodes.active("box", "nginx")
    assert "channelbox" not in _command_of_nginx(nodes)


def test_policy_rc_d_prevents_the_start_of_services(nodes: Nodes) -> None:
    policy = "/usr/sbin/policy-rc.d"
    nodes.root("box", f"printf '#!/bin/sh\\nexit 101\\n' > {policy} && chmod 0755 {policy}")
    nodes.root("box", f"{APT} install /root/channelbox-newer.deb < /dev/null; rm {policy}")
    nodes.root("box", "dpkg-query --show --showformat='${Status}' channelbox | grep -q 'ok installed'")
    nodes.root("box", "pgrep --uid channelbox; test $? = 1")


def test_reinstalling_after_removal_keeps_settings(nodes: Nodes) -> None:
    nodes.root("box", f"{APT} remove channelbox < /dev/null")
    nodes.root("box", f"{APT} install /root/channelbox-newer.deb < /dev/null")
    assert nodes.active("box", "channelbox-web@1")
    assert "Harbour office" in nodes.root("box", "cat /etc/channelbox/channelbox.env")
    assert "channelbox-nginx.conf" in _command_of_nginx(nodes)  # nginx was already running, without it


def test_purging_leaves_nothing(nodes: Nodes) -> None:
    nodes.root("box", f"{APT} purge channelbox < /dev/null")
    left = [path for path in nodes.root("box", OURS).split() if not path.startswith(("/var/lib/apt/", "/var/cache/"))]
    assert left == []
    assert not nodes.root("box", "systemctl list-units --all --no-legend --plain 'channelbox*'")
    # systemctl may exit with 1 for an empty list, which is the expected result, so only the output is checked.
    assert not nodes.root("box", "systemctl list-unit-files --no-legend 'channelbox*' || true")
    nodes.root("box", "nginx -t")
    assert nodes.root("box", "systemctl is-system-running").strip() == "running"


def test_the_node_is_bare_for_site_yml(nodes: Nodes) -> None:
    nodes.root("box", f"{APT} purge --autoremove nginx < /dev/null")
    nodes.root("box", "rm /root/channelbox*.deb")
    assert nodes.root("box", "systemctl is-system-running").strip() == "running"
