"""A room's members are written to in slices over turns of the loop, and each hears all in order, once, without gap."""

import asyncio
from collections.abc import AsyncIterator, Callable
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.realtime.hub import NEW, Record, frames, hub, joined, record

from channelbox.realtime import fan_out, history_source, room_repairs, turn_scheduler
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.errors import Code, Refused
from channelbox.realtime.frames import payloads, text_frame
from channelbox.realtime.history_source import Observed
from channelbox.realtime.hub import Hub
from channelbox.realtime.hub_room import HubRoom, Run

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


def opened() -> HubRoom:
    """Return a room that was read from the record."""
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ready.set_result(None)
    return HubRoom(ready)


async def turns_until(done: Callable[[], bool]) -> list[int]:
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
    written = await turns_until(lambda: all(member.heard for member in members))
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


async def test_what_waits_to_be_written_is_bounded(hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """More comes than the turns can write: the rest is read from the record, and nobody waits for this room."""
    monkeypatch.setattr(fan_out, "FULL_BYTES", 200)
    monkeypatch.setattr(fan_out, "MIN_WRITE_BYTES", 1)
    monkeypatch.setattr(history_source, "PAGE_EVENTS", 20)
    monkeypatch.setattr(room_repairs, "REORDER_SECONDS", 0.001)
    everybody = [await joined(hub) for _ in range(50)]
    monkeypatch.setattr(turn_scheduler, "TURN_BYTES", 30)
    room, waiting, wrote = hub.rooms["r"], [], []
    for seq in range(1, 1001):
        record.last = seq
        heard(hub, seq, seq)
        if seq % 10 == 0:
            room_told(hub, b"somebody types")
        before = sum(len(listener.heard) for listener in everybody)
        await asyncio.sleep(0)
        waiting.append(room._fan_out._waiting_bytes)
        wrote.append(sum(len(listener.heard) for listener in everybody) - before)
    await asyncio.gather(*(listener.until("1000") for listener in everybody))
    for listener in everybody:
        assert listener.numbers == list(range(1, 1001))
    page = len(frames(981, 1000))
    assert 200 < max(waiting) <= 200 + page
    assert max(wrote) <= 2 * 30, "a turn writes no more because more waits"
    assert record.reads < 200, "page by page"
    newcomer = await joined(hub, after=990)
    assert newcomer.numbers == list(range(991, 1001))


@pytest.fixture
async def full_room(hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[HubRoom, int]]:
    """A room in which more waits than may, and the newest number of which was heard. One byte goes out in a turn."""
    monkeypatch.setattr(fan_out, "FULL_BYTES", 100)
    monkeypatch.setattr(fan_out, "MAX_PASS_BYTES", 10)
    monkeypatch.setattr(fan_out, "MIN_WRITE_BYTES", 1)
    monkeypatch.setattr(turn_scheduler, "TURN_BYTES", 1)
    for _ in range(200):
        await joined(hub)
    room, seq = hub.rooms["r"], 0
    while not room.full:
        seq += 1
        record.last = seq
        heard(hub, seq, seq)
    yield room, seq


async def test_what_was_removed_is_told_to_no_newcomer_while_a_room_is_full(
    hub: Hub, record: Record, full_room: tuple[HubRoom, int]
) -> None:
    room, seq = full_room
    record.last = seq + 1
    told = Envelope(seq + 1, seq + 1, frames(seq + 1, seq + 1), 1, replaced=[(1, text_frame(b"removed"))])
    hub.receive("r", room, told)
    assert room.seq == seq, "it takes nothing more"
    newcomer = await joined(hub, after=0)
    assert newcomer.heard[1] == "removed"


async def test_who_has_heard_more_than_a_full_room_is_sent_elsewhere_at_once(
    hub: Hub, record: Record, full_room: tuple[HubRoom, int]
) -> None:
    _, seq = full_room
    record.last = seq + 1
    with pytest.raises(Refused) as refused:
        await joined(hub, after=seq + 1)
    assert refused.value.code == Code.TRY_LATER
    assert (await joined(hub, after=seq - 1)).numbers == [seq]


async def test_a_page_of_the_record_is_written_to_a_member_in_parts(hub: Hub, record: Record) -> None:
    """At once it might be more than a slow reader may have waiting."""
    await joined(hub, after=0)
    member, long = Counting(), text_frame("\u4e2d".encode() * 4000)
    room = hub.rooms["r"]
    room.add(member)
    room.park(Run(1, 200, long * 200))
    room.advance()
    async with asyncio.timeout(10):
        while sum(member.heard) < 200 * len(long):
            before = len(member.heard)
            await asyncio.sleep(0)
            assert len(member.heard) <= before + 1, "one write in a turn"
    assert max(member.heard) <= MIB


async def test_a_small_room_does_not_wait_for_a_large_one() -> None:
    large, small = opened(), opened()
    for _ in range(9000):
        large.add(Counting())
    member = Counting()
    small.add(member)
    for room in (large, small):
        room.park(Run(1, 1, bytes(400)))
        room.advance()
    await asyncio.sleep(0)
    assert member.heard == [400]
    await turns_until(lambda: all(each.heard for each in large.members))  # type: ignore[attr-defined]


async def test_small_rooms_together_write_no_more_in_a_turn() -> None:
    rooms = [opened() for _ in range(100)]
    members = [Counting() for _ in range(1000)]
    for room in rooms:
        for member in members:
            room.add(member)
        room.park(Run(1, 1, bytes(600)))
        room.advance()
    written = await turns_until(lambda: all(len(member.heard) == len(rooms) for member in members))
    assert max(written) <= 8 * MIB


async def test_of_many_rooms_one_is_written_to_in_a_turn() -> None:
    rooms = [opened() for _ in range(20)]
    members = [[Counting() for _ in range(50)] for _ in rooms]
    for room, there in zip(rooms, members, strict=True):
        for member in there:
            room.add(member)
        room.park(Run(1, 60, bytes(MIB)))
        room.advance()
    written = await turns_until(lambda: all(member.heard for there in members for member in there))
    assert max(written) <= 5 * MIB


async def test_a_member_is_written_no_more_than_a_mebibyte_at_once() -> None:
    """It might be cut off as a slow reader for what it had no time to read."""
    room, member = opened(), Counting()
    room.add(member)
    for seq in range(1, 10):
        room.park(Run(seq, seq, bytes(MIB // 2)))
        room.advance()
    await turns_until(lambda: len(member.heard) == 5)
    assert member.heard == [MIB] * 4 + [MIB // 2]


@pytest.fixture
def one_member_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_scheduler, "TURN_BYTES", 1)


def heard(hub: Hub, first: int, last: int) -> None:
    """As from a worker's publish."""
    hub.receive("r", hub.rooms["r"], Envelope(first, last, frames(first, last), 1))


def room_told(hub: Hub, payload: bytes) -> None:
    """As typing, which has no number."""
    hub.receive("r", hub.rooms["r"], Envelope(frames=text_frame(payload)))


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
    hub.receive("r", hub.rooms["r"], Envelope(6, 6, frames(6, 6), NEW.key))
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
    sizes = mock.patch.multiple(fan_out, MAX_PASS_BYTES=100, FULL_BYTES=200, MIN_WRITE_BYTES=1)
    with sizes, mock.patch.object(turn_scheduler, "TURN_BYTES", turn_bytes):
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
