"""The single node, installed by site.yml."""

import pytest
from probe import network
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Member
from probe.waiting import until
from testinfra.host import Host


@pytest.mark.parametrize("instance", ["web@1", "web@2", "worker@1", "worker@2"])
def test_instances_of_the_inventory_are_running_and_enabled(box: Host, instance: str) -> None:
    unit = box.service(f"channelbox-{instance}")
    assert unit.is_running
    assert unit.is_enabled


def test_status_shows_every_process(nodes: Nodes) -> None:
    shown = sorted(process["unit"] for process in nodes.status("box"))
    assert shown == ["web@1", "web@2", "worker@1", "worker@2"]


def test_check_finds_nothing_wrong(nodes: Nodes) -> None:
    nodes.root("box", "channelbox check")


def test_no_unit_of_the_package_is_overridden(nodes: Nodes) -> None:
    overridden = nodes.root("box", "systemd-delta --no-pager --diff=no --type=overridden,masked").splitlines()
    # The drop-in of nginx is overridden, because the roles write its main configuration themselves.
    assert [line for line in overridden if "channelbox" in line and "/nginx.service.d/" not in line] == []


@pytest.mark.parametrize("unit", ["nginx", "redis-server"])
def test_the_administrators_drop_in_wins(nodes: Nodes, unit: str) -> None:
    rule = f"/etc/systemd/system/{unit}.service.d/10-mine.conf"
    show = f"systemctl show --property=RestartUSec --value {unit}"
    nodes.root("box", f"printf '[Service]\\nRestartSec=7\\n' > {rule} && systemctl daemon-reload")
    try:
        assert nodes.root("box", show).strip() == "7s"
    finally:
        nodes.root("box", f"rm {rule} && systemctl daemon-reload")
    assert nodes.root("box", show).strip() == "2s"


async def test_killed_nginx_is_restarted(nodes: Nodes) -> None:
    before = nodes.main_pid("box", "nginx")
    nodes.root("box", "systemctl kill --signal=KILL --kill-who=main nginx")
    await until(lambda: nodes.has_new_process("box", "nginx", before), 60, "nginx runs again")


def test_redis_writes_nothing_to_disk(nodes: Nodes) -> None:
    assert nodes.root("box", "ls -A /var/lib/redis") == ""


def test_an_expiring_certificate_is_renewed_with_the_same_key(nodes: Nodes) -> None:
    renewal = "nginx-channelbox-certificate"
    assert f"{renewal}.service" in nodes.root("box", f"systemctl list-timers --no-legend {renewal}.timer")
    make = "cd /etc/channelbox/tls && cp key.pem /root/key.before"
    # The script examines the certificate itself, so one that it made and that expires tomorrow stands for an old one.
    nodes.root("box", f"{make} && sed s/DAYS=825/DAYS=1/ {PROGRAM} > /root/short && touch self-signed.cnf")
    nodes.root("box", "bash /root/short /etc/channelbox/tls && systemctl reload nginx")
    short = nodes.root("box", "cat /etc/channelbox/tls/cert.pem")
    nodes.root("box", f"systemctl start {renewal}")
    assert nodes.root("box", "cat /etc/channelbox/tls/cert.pem") != short
    nodes.root("box", "cmp /root/key.before /etc/channelbox/tls/key.pem && rm /root/key.before /root/short")
    nodes.root("box", f"{SHOWN} | openssl x509 -noout -checkend {800 * 86_400}")


PROGRAM = "/usr/local/sbin/channelbox-self-signed"
SHOWN = "openssl s_client -connect localhost:443 < /dev/null 2> /dev/null"


async def test_two_clients_exchange_messages(room: str, admin: Browser, endpoint: Endpoint) -> None:
    async with Member(admin, room, endpoint) as first, Member(admin, room, endpoint) as second:
        await first.send("hello")
        await second.wait_for("hello")


async def test_the_node_is_usable_by_its_address_alone(nodes: Nodes, room: str) -> None:
    address, password = network.address(nodes.cluster, "box"), "correct horse battery staple"
    nodes.root("box", f"printf %s '{password}' | channelbox user add charlie --password-stdin")
    endpoint = nodes.https("box", client="desk", host=address)
    charlie = Browser(endpoint)
    charlie.sign_in("charlie", password)
    async with Member(charlie, room, endpoint) as member:
        await member.send("there is no name server here")
