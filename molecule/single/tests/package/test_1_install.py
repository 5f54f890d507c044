"""What the package alone makes of a bare Debian."""

import pytest
from probe.nodes import Nodes
from testinfra.host import Host

SERVICES = ["channelbox-web@1.service", "channelbox-worker@1.service", "channelbox-redis.service"]


def test_it_says_the_address_and_how_to_get_the_first_password(box: Host) -> None:
    told = box.file("/root/install.log").content_string
    assert "https://" in told
    assert "channelbox first-password" in told


@pytest.mark.parametrize("unit", [*SERVICES, "channelbox.target", "channelbox-web.socket", "nginx.service"])
def test_it_runs_and_will_run_after_a_reboot(box: Host, unit: str) -> None:
    assert box.service(unit).is_running
    assert box.service(unit).is_enabled


def test_the_node_is_not_degraded(nodes: Nodes) -> None:
    assert nodes.root("box", "systemctl is-system-running").strip() == "running"


def test_the_check_finds_nothing_wrong(nodes: Nodes) -> None:
    nodes.root("box", "channelbox check")


def test_its_secrets_are_for_root_and_the_service_alone(box: Host) -> None:
    settings = box.file("/etc/channelbox/channelbox.env")
    assert (settings.user, settings.group, settings.mode) == ("root", "channelbox", 0o640)
    key = box.file("/etc/channelbox/tls/key.pem")
    assert key.user == "root"
    assert key.mode & 0o077 == 0


def test_only_nginx_listens_on_the_network(nodes: Nodes) -> None:
    listening = nodes.root("box", "ss --no-header --listening --tcp --numeric --processes")
    ours = [line for line in listening.splitlines() if "sshd" not in line and "127.0.0." not in line]
    assert ours
    assert all("nginx" in line for line in ours), listening
