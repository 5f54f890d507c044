"""People on different nodes are in one conversation."""

import asyncio
from contextlib import AsyncExitStack

from probe.people import Browser, Door, Member


async def test_members_on_both_nodes_and_through_the_balancer_hear_each_other_in_order(
    room: str, alice: Browser, bob: Browser, web1: Door, web2: Door, balancer: Door
) -> None:
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(Member(browser, room, door))
            for browser, door in ((alice, web1), (bob, web2), (alice, balancer), (bob, balancer))
        ]
        for number, speaker in enumerate(members):
            await speaker.says(f"from {number}")
            for member in members:
                await member.hears(f"from {number}")
        said = members[0].messages
        assert list(said) == [1, 2, 3, 4]
        assert all(member.messages == said for member in members)


async def test_another_room_hears_nothing_of_it(
    room: str, alice: Browser, bob: Browser, web1: Door, web2: Door
) -> None:
    async with Member(alice, room, web1) as speaker, Member(bob, f"{room}-next-door", web2) as elsewhere:
        await speaker.says("only here")
        await elsewhere.says("only there")  # a message that was sent before would have arrived before
        assert list(elsewhere.messages.values()) == ["only there"]
        assert list(speaker.messages.values()) == ["only here"]


async def test_everybody_sees_one_order_when_all_talk_at_once(
    room: str, alice: Browser, bob: Browser, web1: Door, web2: Door
) -> None:
    async with Member(alice, room, web1) as first, Member(bob, room, web2) as second:
        await asyncio.gather(
            *(member.says(f"{who} {n}") for who, member in (("a", first), ("b", second)) for n in range(40))
        )
        await first.gets(lambda frame: frame.get("seq") == 80)
        await second.gets(lambda frame: frame.get("seq") == 80)
        assert list(first.messages) == list(second.messages) == list(range(1, 81))
        assert first.messages == second.messages


async def test_a_late_member_is_told_what_was_said_and_a_returning_one_what_it_missed(
    room: str, alice: Browser, bob: Browser, web1: Door, web2: Door
) -> None:
    returning = Member(bob, room, web2)
    async with Member(alice, room, web1) as speaker:
        async with returning:
            await speaker.says("one")
            await returning.hears("one")
        await speaker.says("two")
        await speaker.says("three")
        async with Member(bob, room, web2) as late:
            await late.hears("three")
            assert list(late.messages) == [1, 2, 3]
        async with returning:
            await returning.hears("three")
            assert list(returning.messages) == [1, 2, 3]


async def test_bad_json_is_answered_and_the_connection_goes_on(room: str, alice: Browser, balancer: Door) -> None:
    async with Member(alice, room, balancer) as member:
        await member.send_text("{not json")
        await member.gets(lambda frame: frame.get("error") == "Invalid message format")
        await member.says("still here")
