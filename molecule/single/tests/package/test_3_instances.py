"""The units of a single node are hardened, scale with systemctl, and do not affect each other."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Member
from probe.waiting import until

EXPOSURE = 1.5
"""The largest value that `systemd-analyze security` may report for a unit; 10 is a unit without any hardening."""

HARDENED = [f"channelbox-{unit}" for unit in ("web@1", "worker@1", "migrate", "redis", "sessions", "backup")]


@pytest.mark.parametrize("unit", HARDENED)
def test_the_unit_is_hardened(nodes: Nodes, unit: str) -> None:
    verdict = nodes.root("box", f"systemd-analyze security --no-pager {unit}.service | tail -n 1")
    assert float(verdict.split(": ")[1].split()[0]) <= EXPOSURE, verdict


async def test_an_instance_can_be_added_and_removed(
    nodes: Nodes, room: str, admin: Browser, endpoint: Endpoint
) -> None:
    nodes.root("box", "systemctl enable --now channelbox-web@2 channelbox-worker@2")
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(Member(admin, room, endpoint)) for _ in range(30)]

        def share() -> int:
            return sum(p["connections"] for p in nodes.status("box") if p["unit"] == "web@2")

        assert await until(share, 5, "web@2 has connections")
        await asyncio.to_thread(nodes.root, "box", "systemctl disable --now channelbox-web@2 channelbox-worker@2")
        for member in members:
            if member.closed:
                await member.enter()
        await members[0].send("one instance again")
        for member in members:
            await member.wait_for("one instance again")


@pytest.fixture
def crash_loop(nodes: Nodes) -> Iterator[str]:
    """A web instance that fails at each start, after it has received the shared socket."""
    nodes.root("box", "echo CHANNELBOX_LAYER=nonsense > /etc/channelbox/web@9.env")
    nodes.root("box", "systemctl start --no-block channelbox-web@9")
    yield "channelbox-web@9"
    nodes.root("box", "systemctl stop channelbox-web@9; rm /etc/channelbox/web@9.env")


def accepts_without_blocking(nodes: Nodes, unit: str) -> bool:
    """Return whether the shared socket is still non-blocking in a running instance."""
    pid = nodes.main_pid("box", unit)
    flags = int(nodes.root("box", f"awk '/^flags:/ {{print $2}}' /proc/{pid}/fdinfo/3"), 8)
    return bool(flags & os.O_NONBLOCK)


async def test_a_crash_looping_instance_does_not_block_healthy_ones(
    nodes: Nodes, crash_loop: str, room: str, admin: Browser, endpoint: Endpoint
) -> None:
    nodes.root("box", "systemctl start channelbox-web@2")

    def restarts() -> int:
        return int(nodes.root("box", f"systemctl show --property=NRestarts --value {crash_loop}"))

    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(Member(admin, room, endpoint)) for _ in range(8)]
        deadline = time.monotonic() + 90
        rounds = 0
        while restarts() < 5:
            assert time.monotonic() < deadline, "the instance does not crash as it should"
            # When two processes try to accept one connection, the slower one would block if the socket allowed it.
            bursts = (asyncio.to_thread(Browser(endpoint).request, "GET", "/healthz") for _ in range(12))
            assert {status for status, _text in await asyncio.gather(*bursts)} == {200}
            # Nobody connects now, so a process that blocks in accept() would send nothing to its members.
            rounds += 1
            await members[0].send(f"round {rounds}", within=5)
            for member in members:
                await member.wait_for(f"round {rounds}", within=5)
    nodes.root("box", "systemctl stop channelbox-web@2")
    assert accepts_without_blocking(nodes, "channelbox-web@1")


async def test_killed_processes_are_restarted(nodes: Nodes, admin: Browser, endpoint: Endpoint, room: str) -> None:
    before = nodes.main_pid("box", "channelbox-web@1")
    nodes.root("box", "systemctl kill --signal=KILL channelbox-web@1 channelbox-worker@1")
    await until(lambda: nodes.has_new_process("box", "channelbox-web@1", before), 60, "systemd starts it again")
    async with Member(admin, room, endpoint) as member:
        await member.send("back")
