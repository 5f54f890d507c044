"""Members on different nodes share one conversation."""

import asyncio
from contextlib import AsyncExitStack

from probe.people import Browser, Endpoint, Member


async def test_members_on_all_paths_receive_all_messages_in_order(
    room: str, alice: Browser, bob: Browser, web1: Endpoint, web2: Endpoint, balancer: Endpoint
) -> None:
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(Member(browser, room, endpoint))
            for browser, endpoint in ((alice, web1), (bob, web2), (alice, balancer), (bob, balancer))
        ]
        for number, speaker in enumerate(members):
            await speaker.send(f"from {number}")
            for member in members:
                await member.wait_for(f"from {number}")
        messages = members[0].messages
        assert list(messages) == [1, 2, 3, 4]
        assert all(member.messages == messages for member in members)


async def test_messages_do_not_reach_another_room(
    room: str, alice: Browser, bob: Browser, web1: Endpoint, web2: Endpoint
) -> None:
    async with Member(alice, room, web1) as speaker, Member(bob, f"{room}-next-door", web2) as elsewhere:
        await speaker.send("only here")
        await elsewhere.send("only there")  # a message sent earlier would have arrived earlier
        assert list(elsewhere.messages.values()) == ["only there"]
        assert list(speaker.messages.values()) == ["only here"]


async def test_concurrent_messages_have_one_order_on_both_nodes(
    room: str, alice: Browser, bob: Browser, web1: Endpoint, web2: Endpoint
) -> None:
    async with Member(alice, room, web1) as first, Member(bob, room, web2) as second:
        await asyncio.gather(
            *(member.send(f"{who} {n}") for who, member in (("a", first), ("b", second)) for n in range(40))
        )
        await first.wait_for_frame(lambda frame: frame.get("seq") == 80)
        await second.wait_for_frame(lambda frame: frame.get("seq") == 80)
        assert list(first.messages) == list(second.messages) == list(range(1, 81))
        assert first.messages == second.messages


async def test_new_and_returning_members_receive_missed_messages(
    room: str, alice: Browser, bob: Browser, web1: Endpoint, web2: Endpoint
) -> None:
    returning = Member(bob, room, web2)
    async with Member(alice, room, web1) as speaker:
        async with returning:
            await speaker.send("one")
            await returning.wait_for("one")
        await speaker.send("two")
        await speaker.send("three")
        async with Member(bob, room, web2) as late:
            await late.wait_for("three")
            assert list(late.messages) == [1, 2, 3]
        async with returning:
            await returning.wait_for("three")
            assert list(returning.messages) == [1, 2, 3]


async def test_bad_json_gets_an_error_and_keeps_the_connection(room: str, alice: Browser, balancer: Endpoint) -> None:
    async with Member(alice, room, balancer) as member:
        await member.send_text("{not json")
        await member.wait_for_frame(lambda frame: frame.get("error") == "Invalid message format")
        await member.send("still here")
