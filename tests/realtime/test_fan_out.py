"""A room's members are written to in slices over turns of the loop, and each hears all in order, once, without gap."""

import asyncio
from collections.abc import Callable
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.realtime.hub import NEW, Record, frames, hub, joined, record

from channelbox.realtime import fan_out
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.frames import payloads, text_frame
from channelbox.realtime.hub import Hub
from channelbox.realtime.record import Observed
from channelbox.realtime.room import Room, Run

MIB = 1024 * 1024
MEMBERS = 1000


class Counting:
    """A member that counts what it is written."""

    on_lost: Callable[[], None] | None = None
    written = 0  # bytes, to all of them

    def __init__(self) -> None:
        self.heard: list[int] = []  # the numbers of the runs, by their sizes

    def restart(self) -> None:
        raise AssertionError("nobody is sent away here")

    def write_frames(self, frames: bytes) -> None:
        type(self).written += len(frames)
        self.heard.append(len(frames))


def opened() -> Room:
    """Return a room that was read from the record."""
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ready.set_result(None)
    return Room(ready)


async def turns(done: Callable[[], bool]) -> list[int]:
    """Return the bytes that are written in each turn of the loop until it is done."""
    written: list[int] = []
    async with asyncio.timeout(10):
        while not done():
            before = Counting.written
            await asyncio.sleep(0)
            written.append(Counting.written - before)
    return written


async def test_a_burst_to_many_members_is_written_in_bounded_slices() -> None:
    room = opened()
    members = [Counting() for _ in range(MEMBERS)]
    for member in members:
        room.add(member)
    delivered = counters.delivered
    room.park(Run(1, 60, bytes(MIB)))
    room.advance()
    written = await turns(lambda: all(member.heard for member in members))
    assert max(written) <= 5 * MIB
    assert all(member.heard == [MIB] for member in members)
    assert counters.delivered - delivered == 60 * MEMBERS


async def test_a_message_to_many_members_is_written_in_one_turn() -> None:
    room = opened()
    members = [Counting() for _ in range(5 * MEMBERS)]
    for member in members:
        room.add(member)
    room.park(Run(1, 1, bytes(500)))
    room.advance()
    await asyncio.sleep(0)
    assert all(member.heard == [500] for member in members)


async def test_what_waits_to_be_written_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More comes than a slice a turn can write: then as much is written as comes."""
    monkeypatch.setattr(fan_out, "TURN_BYTES", 1000)
    monkeypatch.setattr(fan_out, "PASS_BYTES", 1000)
    monkeypatch.setattr(fan_out, "MAX_WAITING_BYTES", 5000)
    room = opened()
    members = [Counting() for _ in range(100)]
    for member in members:
        room.add(member)
    waiting = []
    for seq in range(1, 201):
        room.park(Run(seq, seq, bytes(500)))
        room.advance()
        await asyncio.sleep(0)
        waiting.append(room._fan_out._waiting_bytes)
    assert 5000 < max(waiting) <= 5000 + 1000 + 2 * 500
    await turns(lambda: all(sum(member.heard) == 200 * 500 for member in members))


async def test_of_many_rooms_one_is_written_to_in_a_turn() -> None:
    rooms = [opened() for _ in range(20)]
    members = [[Counting() for _ in range(50)] for _ in rooms]
    for room, there in zip(rooms, members, strict=True):
        for member in there:
            room.add(member)
        room.park(Run(1, 60, bytes(MIB)))
        room.advance()
    written = await turns(lambda: all(member.heard for there in members for member in there))
    assert max(written) <= 5 * MIB


async def test_a_member_is_written_no_more_than_a_mebibyte_at_once() -> None:
    """It might be cut off as a slow reader for what it had no time to read."""
    room, member = opened(), Counting()
    room.add(member)
    for seq in range(1, 10):
        room.park(Run(seq, seq, bytes(MIB // 2)))
        room.advance()
    await turns(lambda: len(member.heard) == 5)
    assert member.heard == [MIB] * 4 + [MIB // 2]


@pytest.fixture
def one_member_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "TURN_BYTES", 1)


def heard(hub: Hub, first: int, last: int) -> None:
    """As from a worker's publish."""
    hub.heard("r", hub.rooms["r"], Envelope(first, last, frames(first, last), 1))


@pytest.mark.usefixtures("one_member_in_a_turn")
async def test_who_joins_while_others_are_written_to_hears_all_once(hub: Hub, record: Record) -> None:
    record.last = 10
    everybody = [await joined(hub) for _ in range(5)]
    for seq in range(11, 61):
        record.last = seq
        heard(hub, seq, seq)
        await asyncio.sleep(0)
        if seq % 5 == 0:
            everybody += [await joined(hub, after=8), await joined(hub, history=5)]
            assert everybody[-2].numbers == list(range(9, seq + 1))
    for listener in everybody:
        await listener.until("60")
        first = listener.numbers[0]
        assert listener.numbers == list(range(first, 61))


@pytest.mark.usefixtures("one_member_in_a_turn")
async def test_who_left_while_others_are_written_to_hears_no_more(hub: Hub, record: Record) -> None:
    everybody = [await joined(hub) for _ in range(20)]
    heard(hub, 1, 1)
    while not any(listener.numbers for listener in everybody):
        await asyncio.sleep(0)
    gone = [listener for listener in everybody if not listener.numbers]
    assert gone
    for listener in gone[1:]:
        hub.leave("r", listener)
    await gone[0].until("1")
    await asyncio.sleep(0)
    assert [listener.numbers for listener in gone] == [[1]] + [[]] * (len(gone) - 1)


@pytest.mark.usefixtures("one_member_in_a_turn")
async def test_members_of_a_room_that_is_replaced_hear_no_more_of_it(hub: Hub, record: Record) -> None:
    former = [await joined(hub) for _ in range(20)]
    heard(hub, 1, 3)
    await asyncio.sleep(0)
    record.identity = NEW
    record.last = 5
    hub.observe("r", hub.rooms["r"], Observed(NEW, 1, 5))
    before = [list(listener.numbers) for listener in former]
    assert [] in before
    present = await joined(hub)
    hub.heard("r", hub.rooms["r"], Envelope(6, 6, frames(6, 6), NEW.key))
    await present.until("6")
    assert present.numbers == [1, 2, 3, 4, 5, 6]
    assert [listener.numbers for listener in former] == before


class Somebody:
    """A member that may come and go, and what it heard in its newest stay."""

    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.here = False
        self.since = 0  # how much had been said when it came
        self.greeted = 0  # the newest number then
        self.heard: list[bytes] = []
        self.after_leaving = 0  # writes

    def restart(self) -> None:
        raise AssertionError("nobody is sent away here")

    def write_frames(self, frames: bytes) -> None:
        self.after_leaving += not self.here
        self.heard += [bytes(payload) for _, payload in payloads(frames)]


SIZES = st.integers(0, 60)
WHO = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("event"), SIZES),
    st.tuples(st.just("typing"), SIZES),
    st.tuples(st.just("comes"), WHO),
    st.tuples(st.just("goes"), WHO),
    st.tuples(st.just("turns"), st.integers(1, 3)),
    st.tuples(st.just("replaced"), st.integers(0, 9)),
)


@given(st.lists(STEPS, max_size=80), st.sampled_from([1, 60, 300]))
def test_each_member_hears_a_whole_stretch_in_order(steps: list[tuple[str, int]], turn_bytes: int) -> None:
    """The model: a list of all that was said. Each member has heard the first of what follows its coming."""
    everybody = [("comes", who) for who in range(6)]
    with mock.patch.multiple(fan_out, TURN_BYTES=turn_bytes, PASS_BYTES=100, MAX_WAITING_BYTES=200):
        asyncio.run(_play([*everybody, *steps]))


async def _play(steps: list[tuple[str, int]]) -> None:
    room, people, said = opened(), [Somebody() for _ in range(6)], list[bytes]()
    for number, (step, argument) in enumerate(steps):
        somebody = people[argument % len(people)]
        if step == "event":
            said.append(b"%d %s" % (room.seq + 1, b"x" * argument))
            room.park(Run(room.seq + 1, room.seq + 1, text_frame(said[-1])))
            room.advance()
        elif step == "typing":
            said.append(b"typing %d %s" % (number, b"x" * argument))
            room.write(text_frame(said[-1]))
        elif step == "comes" and not somebody.here:
            somebody.here, somebody.since, somebody.greeted, somebody.heard = True, len(said), room.seq, []
            room.add(somebody)
        elif step == "goes":
            room.members.discard(somebody)
            somebody.here = False
        elif step == "replaced" and not argument:
            room.members.clear()
            for each in people:
                each.here = False
        for _ in range(argument if step == "turns" else 0):
            await asyncio.sleep(0)
        for each in people:
            if each.here:
                assert each.heard == said[each.since :][: len(each.heard)]
                numbers = [int(payload.split()[0]) for payload in each.heard if payload[:1] != b"t"]
                assert room.written_to(each) == max([each.greeted, *numbers])
    for _ in range(10 * len(said) * len(people) + 10):
        await asyncio.sleep(0)
    for each in people:
        assert not each.here or each.heard == said[each.since :]
        assert not each.after_leaving
    assert not room._fan_out._newcomers
