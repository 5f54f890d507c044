"""The limit of a room holds over all nodes together, and slots are free again after a crash."""

import asyncio

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Member
from probe.waiting import until

FULL = 4000
LEASE = 15.0
"""Seconds after which the slots of a dead process are free again."""

LIMIT_OF_THREE = (
    "from channelbox.chat.models import Room; Room.objects.update_or_create(name='{}', defaults={{'limit': 3}})"
)


@pytest.fixture
def small_room(nodes: Nodes, room: str) -> str:
    """A room with a limit of three, set as an administrator sets it."""
    nodes.root("web1", f'channelbox manage shell -c "{LIMIT_OF_THREE.format(room)}"')
    return room


async def is_full(browser: Browser, room: str, endpoint: Endpoint) -> bool:
    """Return whether one more member is refused. If not, it leaves again."""
    one_more = Member(browser, room, endpoint)
    await one_more.enter(welcome=False)
    try:
        await one_more.wait_for_frame(lambda frame: frame.get("type") == "welcome" or "error" in frame)
        if one_more.errors:
            assert (await one_more.wait_closed())[0] == FULL
            assert one_more.errors[0]["code"] == "room_full"
            return True
        return False
    finally:
        await one_more.leave()


async def test_a_full_room_refuses_joins_on_all_nodes_until_a_member_leaves(
    small_room: str, alice: Browser, bob: Browser, web1: Endpoint, web2: Endpoint
) -> None:
    first, second, third = (Member(alice, small_room, endpoint) for endpoint in (web1, web1, web2))
    async with first, second, third:
        assert await is_full(bob, small_room, web2)
        assert await is_full(bob, small_room, web1)
        await third.leave()
        await until(lambda: _has_free_slot(bob, small_room, web1), 5, "there is a place again")
        async with Member(bob, small_room, web1) as fourth:
            assert await is_full(bob, small_room, web2)
            await first.send("the three of us")
            await fourth.wait_for("the three of us")


async def _has_free_slot(browser: Browser, room: str, endpoint: Endpoint) -> bool:
    return not await is_full(browser, room, endpoint)


async def test_slots_of_a_killed_web_process_are_freed_within_the_lease(
    nodes: Nodes, small_room: str, alice: Browser, bob: Browser, web1: Endpoint, web2: Endpoint
) -> None:
    members = [Member(alice, small_room, web1) for _ in range(3)]
    for member in members:
        await member.enter()
    units = ("channelbox-web@1", "channelbox-web@2")
    before = {unit: nodes.main_pid("web1", unit) for unit in units}
    victim = await _unit_with_members(nodes, units)
    assert await is_full(bob, small_room, web2)
    nodes.root("web1", f"systemctl kill --signal=KILL {victim}")
    lost = await until(lambda: [m for m in members if m.closed], 5, "the clients of the killed process notice")

    await until(lambda: _has_free_slot(bob, small_room, web2), LEASE + 2, "the dead process' places are free")
    newcomers = [Member(bob, small_room, web2) for _ in lost]
    for member in newcomers:
        await member.enter()
    assert await is_full(bob, small_room, web2), "no more places than there are"

    await until(lambda: nodes.active("web1", victim), 10, "systemd has it back")
    assert nodes.main_pid("web1", victim) not in (0, before[victim])
    survivor = next(unit for unit in units if unit != victim)
    assert nodes.main_pid("web1", survivor) == before[survivor]
    await asyncio.gather(*(member.leave() for member in members + newcomers))


async def _unit_with_members(nodes: Nodes, units: tuple[str, ...]) -> str:
    """Return a web unit of web1 that has connections now."""

    def find() -> str | None:
        held = {p["unit"]: p["connections"] for p in nodes.status("web1") if p["node"] == "web1"}
        return next((unit for unit in units if held.get(unit.removeprefix("channelbox-"))), None)

    return await until(find, 5, "a web process of web1 reports its connections")
