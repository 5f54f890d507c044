"""Scaling with systemctl alone: instances are added and removed, and the process report shows them at once."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Frame, Member, WebSocketClient
from probe.waiting import until

SHOWN_WITHIN = 2.0
"""Seconds within which the dashboard must show a process that has started."""


@pytest.fixture
def third_web(nodes: Nodes) -> Iterator[str]:
    yield "channelbox-web@3"
    nodes.root("web1", "systemctl disable --now channelbox-web@3")


@pytest.fixture
def third_worker(nodes: Nodes) -> Iterator[str]:
    yield "channelbox-worker@3"
    nodes.root("worker1", "systemctl disable --now channelbox-worker@3")
    for node in nodes.groups["worker"]:
        nodes.root(node, "systemctl start channelbox-worker@1 channelbox-worker@2")


async def wait_until_shown(dashboard: WebSocketClient, node: str, unit: str, seconds: float) -> None:
    """Wait until an open dashboard shows a process."""

    def shown(frame: Frame) -> bool:
        processes = frame.get("data", {}).get("processes", [])
        return any((process["node"], process["unit"]) == (node, unit) for process in processes)

    await dashboard.wait_for_frame(shown, within=seconds, start=len(dashboard.frames))


def connections(nodes: Nodes, node: str) -> dict[str, int]:
    """Return the connections of each web instance of a node, as the process report gives them."""
    return {p["unit"]: p["connections"] for p in nodes.status("web2") if p["node"] == node and p["kind"] == "web"}


def nginx_processes(nodes: Nodes, node: str) -> str:
    return nodes.root(node, "pgrep --exact nginx")


async def test_adding_and_removing_a_web_instance_affects_no_other(
    nodes: Nodes, third_web: str, room: str, alice: Browser, bob: Browser, web1: Endpoint, web2: Endpoint
) -> None:
    nginx = {node: nginx_processes(nodes, node) for node in ("lb1", "web1")}
    async with AsyncExitStack() as stack:
        dashboard = await stack.enter_async_context(WebSocketClient(alice, "/ws/dashboard/", web2))
        early = [await stack.enter_async_context(Member(alice, room, web1)) for _ in range(20)]

        await asyncio.to_thread(nodes.root, "web1", f"systemctl enable --now {third_web}")
        await wait_until_shown(dashboard, "web1", "web@3", SHOWN_WITHIN)

        late = [await stack.enter_async_context(Member(bob, room, web1)) for _ in range(60)]

        def all_reported() -> dict[str, int] | None:
            held = connections(nodes, "web1")
            return held if sum(held.values()) == len(early + late) else None

        share = (await until(all_reported, 10, "the report counts every connection"))["web@3"]
        assert share >= 1

        await asyncio.to_thread(nodes.root, "web1", f"systemctl stop {third_web}")
        await until(lambda: len([m for m in late if m.closed]) >= share, 5, "the clients of web@3 are sent away")
        closed_members = [member for member in late if member.closed]
        assert {member.closed[0] for member in closed_members if member.closed} == {1012}
        assert len(closed_members) == share
        assert not any(member.closed for member in early)

        for member in closed_members:
            await member.enter()
        await early[0].send("all of us")
        for member in early + late:
            await member.wait_for("all of us")
    assert {node: nginx_processes(nodes, node) for node in ("lb1", "web1")} == nginx


async def test_a_worker_instance_can_be_added_and_removed(
    nodes: Nodes, third_worker: str, room: str, alice: Browser, web1: Endpoint
) -> None:
    async with Member(alice, room, web1) as member, WebSocketClient(alice, "/ws/dashboard/", web1) as dashboard:
        await member.send("as it was")
        await asyncio.to_thread(nodes.root, "worker1", f"systemctl enable --now {third_worker}")
        await wait_until_shown(dashboard, "worker1", "worker@3", SHOWN_WITHIN)
        for node in nodes.groups["worker"]:
            nodes.root(node, "systemctl stop channelbox-worker@1 channelbox-worker@2")
        await member.send("now worker@3 alone does the work")
        for node in nodes.groups["worker"]:
            nodes.root(node, "systemctl start channelbox-worker@1 channelbox-worker@2")
        nodes.root("worker1", f"systemctl stop {third_worker}")
        await member.send("and now the others again")
        await until(
            lambda: all((p["node"], p["unit"]) != ("worker1", "worker@3") for p in nodes.status("web2")),
            20,
            "worker@3 has left the report",
        )


async def test_a_rolling_restart_of_a_node_fails_no_request(nodes: Nodes, alice: Browser, web1: Endpoint) -> None:
    done = asyncio.Event()
    answers: list[int] = []

    def visit() -> int:
        return Browser(web1).request("GET", "/healthz")[0]

    async def keep_visiting() -> None:
        while not done.is_set():
            answers.extend(await asyncio.gather(*(asyncio.to_thread(visit) for _ in range(4))))

    visitor = asyncio.create_task(keep_visiting())
    try:
        for instance in (1, 2):
            await asyncio.to_thread(nodes.root, "web1", f"systemctl restart channelbox-web@{instance}")
    finally:
        done.set()
        await visitor
    assert len(answers) > 20
    assert set(answers) == {200}
