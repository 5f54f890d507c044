"""The same node as site.yml makes it."""

import pytest
from probe import places
from probe.nodes import Nodes
from probe.people import Browser, Door, Member
from testinfra.host import Host


@pytest.mark.parametrize("instance", ["web@1", "web@2", "worker@1", "worker@2"])
def test_the_instances_that_the_inventory_asks_for_run(box: Host, instance: str) -> None:
    unit = box.service(f"channelbox-{instance}")
    assert unit.is_running
    assert unit.is_enabled


def test_the_fleet_report_shows_every_process(nodes: Nodes) -> None:
    shown = sorted(process["unit"] for process in nodes.status("box"))
    assert shown == ["web@1", "web@2", "worker@1", "worker@2"]


def test_the_check_finds_nothing_wrong(nodes: Nodes) -> None:
    nodes.root("box", "channelbox check")


def test_no_unit_of_the_package_is_overridden(nodes: Nodes) -> None:
    overridden = nodes.root("box", "systemd-delta --no-pager --diff=no --type=overridden,masked").splitlines()
    # Of nginx the roles write the main configuration themselves.
    assert [line for line in overridden if "channelbox" in line and "/nginx.service.d/" not in line] == []


async def test_people_talk(room: str, admin: Browser, door: Door) -> None:
    async with Member(admin, room, door) as first, Member(admin, room, door) as second:
        await first.says("hello")
        await second.hears("hello")


async def test_people_talk_who_know_its_address_alone(nodes: Nodes, room: str) -> None:
    address, password = places.address(nodes.cluster, "box"), "correct horse battery staple"
    nodes.root("box", f"printf %s '{password}' | channelbox user add eve --password-stdin")
    door = nodes.https("box", client="desk", host=address)
    eve = Browser(door)
    eve.sign_in("eve", password)
    async with Member(eve, room, door) as member:
        await member.says("there is no name server here")
