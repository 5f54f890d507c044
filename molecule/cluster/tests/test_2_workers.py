"""Workers are stopped, started and killed: accepted messages are stored, and no client gets an error."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Frame, Member
from probe.waiting import until

WORKERS = ("channelbox-worker@1", "channelbox-worker@2")
QUEUE_EXPIRY = 3.0
"""Seconds after which a queued batch expires and the outbox sends it again (CHANNELBOX_WORK_EXPIRY)."""


@pytest.fixture
def workers(nodes: Nodes) -> Iterator[list[str]]:
    """The worker nodes; workers that a test stopped are started again after it."""
    yield nodes.groups["worker"]
    for node in nodes.groups["worker"]:
        nodes.root(node, f"systemctl start {' '.join(WORKERS)}")


def answers(id: str) -> Callable[[Frame], bool]:
    """Return a condition that is true for a frame which says that this message is stored."""
    return lambda frame: frame.get("id") == id and "seq" in frame


async def test_messages_are_stored_while_one_nodes_workers_are_stopped(
    nodes: Nodes, workers: list[str], room: str, alice: Browser, bob: Browser, web1: Endpoint, web2: Endpoint
) -> None:
    async with Member(alice, room, web1) as first, Member(bob, room, web2) as second:
        for stopped in workers:
            nodes.root(stopped, f"systemctl stop {' '.join(WORKERS)}")
            for number in range(10):
                await first.send(f"{number} without {stopped}")
                await second.wait_for(f"{number} without {stopped}")
            nodes.root(stopped, f"systemctl start {' '.join(WORKERS)}")
        assert list(second.messages) == list(range(1, 21))


async def test_messages_wait_without_errors_while_no_worker_runs(
    nodes: Nodes, workers: list[str], room: str, alice: Browser, bob: Browser, web1: Endpoint, web2: Endpoint
) -> None:
    async with Member(alice, room, web1) as first, Member(bob, room, web2) as second:
        await first.send("before")
        for node in workers:
            nodes.root(node, f"systemctl stop {' '.join(WORKERS)}")
        sent = [await first.say(f"waiting {number}") for number in range(30)]
        await second.say("waiting too")
        # Longer than the queue keeps a batch: the outbox must have sent it again, and clients see no error.
        await asyncio.sleep(2 * QUEUE_EXPIRY)
        assert list(first.messages.values()) == list(second.messages.values()) == ["before"]
        assert not first.errors and not second.errors

        nodes.root(workers[0], f"systemctl start {WORKERS[0]}")
        for id in sent:
            await first.wait_for_frame(answers(id), within=15)
        for member in (first, second):
            await member.wait_for_frame(lambda frame: frame.get("seq") == 32, within=15)
        texts = [text for text in second.messages.values() if text != "waiting too"]
        assert texts == ["before", *(f"waiting {number}" for number in range(30))]
        assert first.messages == second.messages
        assert list(second.messages) == list(range(1, 33))


async def test_killed_workers_lose_nothing_and_are_restarted(
    nodes: Nodes, workers: list[str], room: str, alice: Browser, web1: Endpoint
) -> None:
    async with Member(alice, room, web1) as member:
        for round in range(3):
            sent = [await member.say(f"{round} {number}") for number in range(15)]
            for node in workers:
                nodes.root(node, "systemctl kill --signal=KILL 'channelbox-worker@*'")
            for id in sent:
                await member.wait_for_frame(answers(id), within=60)
            await asyncio.sleep(1)  # stay within the rate limit
        assert list(member.messages) == list(range(1, 46))
        assert list(member.messages.values()) == [f"{round} {n}" for round in range(3) for n in range(15)]
    for node in workers:
        for unit in WORKERS:
            await until(partial(nodes.active, node, unit), 60, f"{unit} runs again on {node}")
