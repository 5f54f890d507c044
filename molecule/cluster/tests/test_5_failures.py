"""Redis, a node and the power go and come back; people go on where they were."""

import asyncio
import time

from probe.nodes import Nodes
from probe.people import Browser, Door, Member
from probe.speaker import RECOVERED_WITHIN, Speaker
from probe.waiting import until


async def test_redis_restarted_the_room_goes_on_without_a_gap(
    nodes: Nodes, room: str, ann: Browser, bob: Browser, web1: Door, web2: Door
) -> None:
    async with Member(ann, room, web1) as first, Member(bob, room, web2) as second:
        speaker = Speaker(first)
        talking = asyncio.create_task(speaker.talk())
        await second.hears("number 3")
        await asyncio.to_thread(nodes.root, "data1", "systemctl restart redis-server")
        restarted = time.monotonic()
        fresh = len(speaker.said) + 1
        await second.hears(f"number {fresh}", within=RECOVERED_WITHIN)
        recovered = time.monotonic() - restarted
        await speaker.stop()
        await talking
        await second.hears(speaker.said[-1])
        assert not second.closed
        assert list(second.messages) == list(range(1, len(speaker.said) + 1))
        assert list(second.messages.values()) == speaker.said
        assert first.messages == second.messages
        assert recovered < RECOVERED_WITHIN
    await until(lambda: len(nodes.status("web1")) == 8, RECOVERED_WITHIN, "every process is in the report again")


async def test_a_web_node_rebooted_returns_and_the_other_carries_on_meanwhile(
    nodes: Nodes, room: str, ann: Browser, bob: Browser, web1: Door, web2: Door, balancer: Door
) -> None:
    async with Member(bob, room, web2) as elsewhere:
        through = Member(ann, room, balancer)
        await through.enter()
        speaker = Speaker(through)
        talking = asyncio.create_task(speaker.talk())
        await elsewhere.hears("number 3")
        await asyncio.to_thread(nodes.restart, "web1")
        await elsewhere.hears(f"number {len(speaker.said) + 1}")
        await speaker.stop()
        await talking
        await elsewhere.hears(speaker.said[-1])
        assert list(elsewhere.messages.values()) == speaker.said
        assert through.messages == elsewhere.messages
        await through.leave()

        async def back() -> bool:
            async with Member(ann, room, web1) as member:
                await member.says("web1 is back", within=3)
            return True

        await until(back, RECOVERED_WITHIN, "web1 serves again")
        await elsewhere.hears("web1 is back")


async def test_power_cut_of_the_data_node_loses_nothing_that_was_accepted(
    nodes: Nodes, room: str, ann: Browser, bob: Browser, web1: Door, web2: Door
) -> None:
    async with Member(ann, room, web1) as first, Member(bob, room, web2) as second:
        speaker = Speaker(first)
        talking = asyncio.create_task(speaker.talk())
        await second.hears("number 3")
        await asyncio.to_thread(nodes.restart, "data1", power_cut=True)
        fresh = len(speaker.said) + 1
        await second.hears(f"number {fresh}", within=RECOVERED_WITHIN)
        await speaker.stop()
        await talking
        await second.hears(speaker.said[-1])
        assert list(second.messages) == list(range(1, len(speaker.said) + 1))
        assert second.messages == first.messages
