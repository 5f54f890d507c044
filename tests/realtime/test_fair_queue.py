"""The fair queue: a bounded number of turns at a time, fair by address and session."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelbox.realtime.fair_queue import Crowded, FairQueue, Turn


def granted(turn: Turn) -> bool:
    return turn.granted.done() and not turn.granted.cancelled() and turn.granted.exception() is None


async def test_no_more_turns_are_granted_than_the_limit() -> None:
    queue = FairQueue(2, 10)
    turns = [queue.request("a", "") for _ in range(4)]
    assert [granted(turn) for turn in turns] == [True, True, False, False]
    turns[0].end()
    turns[0].end()
    assert [granted(turn) for turn in turns[2:]] == [True, False]


async def test_more_turns_are_granted_only_while_the_current_ones_are_slow() -> None:
    queue = FairQueue(3, 10, slow_seconds=0.05)
    loop = asyncio.get_running_loop()
    quick, slow, third, fourth = (queue.request("a", "") for _ in range(4))
    assert [granted(turn) for turn in (quick, slow, third)] == [True, False, False]
    began = loop.time()
    quick.end()
    assert [granted(turn) for turn in (slow, third)] == [True, False]
    await third.granted
    assert loop.time() - began >= 0.05
    assert not granted(fourth)
    await fourth.granted
    assert loop.time() - began >= 0.1
    for turn in (slow, third, fourth):
        turn.end()
    assert granted(queue.request("b", ""))


async def test_quick_turns_follow_one_another_beside_a_slow_one() -> None:
    queue = FairQueue(2, 10, slow_seconds=0.05)
    slow, *quick = (queue.request("a", "") for _ in range(10))
    await quick[0].granted
    for turn in quick:
        assert granted(turn)
        turn.end()
    assert granted(slow)


async def test_addresses_alternate_however_many_requests_one_has_waiting() -> None:
    queue = FairQueue(1, 100)
    first = queue.request("flood", "")
    for _ in range(50):
        queue.request("flood", "")
    other = queue.request("other", "")
    first.end()
    flooding = next(iter(queue._working))
    assert flooding.address == "flood"
    flooding.end()
    assert granted(other)


async def test_sessions_of_one_address_alternate() -> None:
    queue = FairQueue(1, 100)
    first = queue.request("nat", "flood")
    flood = [queue.request("nat", "flood") for _ in range(50)]
    others = [queue.request("nat", f"person {n}") for n in range(3)]
    first.end()
    order = []
    for _ in range(5):
        (working,) = queue._working
        order.append(working.session)
        working.end()
    assert order == ["flood", "person 0", "person 1", "person 2", "flood"]
    assert not any(granted(turn) for turn in [*flood[3:]])
    assert all(turn.granted.done() for turn in others)


async def test_one_session_gets_at_most_half_of_the_turns() -> None:
    queue = FairQueue(4, 100)
    slow = [queue.request("a", "slow") for _ in range(4)]
    assert [granted(turn) for turn in slow] == [True, True, False, False]
    assert granted(queue.request("a", "other"))
    slow[0].end()
    assert granted(slow[2])


async def test_a_full_queue_drops_requests_of_the_flooding_session() -> None:
    queue = FairQueue(1, 10)
    queue.request("a", "x")
    flood = [queue.request("a", "flood") for _ in range(10)]
    with pytest.raises(Crowded):
        queue.request("a", "flood")
    other = queue.request("b", "y")
    assert not other.granted.done()
    with pytest.raises(Crowded):
        flood[-1].granted.result()
    neighbour = queue.request("a", "z")
    assert not neighbour.granted.done()
    with pytest.raises(Crowded):
        flood[-2].granted.result()
    assert queue.waiting == 10


async def test_an_abandoned_request_uses_no_turn() -> None:
    queue = FairQueue(1, 10)
    first, second, third = (queue.request("a", "") for _ in range(3))
    second.end()
    first.end()
    assert granted(third)
    third.end()
    assert not queue._working
    assert not queue._addresses
    assert not queue._waiting
    assert not queue._busy


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5)), max_size=100))
def test_the_queue_stays_within_its_limits_and_ends_empty(steps: list[tuple[int, int, int]]) -> None:
    async def run() -> None:
        queue = FairQueue(2, 5)
        turns: list[Turn] = []
        for address, session, end in steps:
            with contextlib.suppress(Crowded):
                turns.append(queue.request(f"a{address}", f"s{session}" if session else ""))
            if end < len(turns):
                turns.pop(end).end()
            assert len(queue._working) <= 2
            assert queue.waiting <= 5
            assert queue.waiting == sum(queue._waiting.values())
        for turn in turns:
            turn.end()
        assert not (queue._working or queue._addresses or queue._waiting or queue._busy or queue.waiting)

    asyncio.run(run())
