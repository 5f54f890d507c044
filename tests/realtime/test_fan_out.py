"""Fan-out in slices over turns of the event loop: each member receives every event once, in order and without gaps."""

import asyncio
from collections.abc import AsyncIterator, Callable
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.realtime.hub import NEW, FakeStore, frames, hub, join, store

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
    """A member that counts the bytes of each write to it."""

    on_lost: Callable[[], None] | None = None
    written = 0  # bytes, to all members

    def __init__(self) -> None:
        self.received: list[int] = []  # sizes of the writes, in bytes

    def restart(self) -> None:
        raise AssertionError("no member is disconnected here")

    def write_frames(self, frames: bytes) -> None:
        type(self).written += len(frames)
        self.received.append(len(frames))


def opened() -> HubRoom:
    """Return a room that is open."""
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ready.set_result(None)
    return HubRoom(ready)


async def turns_until(done: Callable[[], bool]) -> list[int]:
    """Return the bytes that are written in each turn of the event loop until `done` returns true."""
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
    written = await turns_until(lambda: all(member.received for member in members))
    assert max(written) <= 5 * MIB
    assert all(member.received == [MIB] for member in members)
    assert counters.delivered - delivered == 60 * MEMBERS


async def test_a_message_to_many_members_is_written_in_one_turn() -> None:
    room = opened()
    members = [Counting() for _ in range(5 * MEMBERS)]
    for member in members:
        room.add(member)
    room.park(Run(1, 1, bytes(500)))
    room.advance()
    await asyncio.sleep(0)
    assert all(member.received == [500] for member in members)


async def test_the_write_backlog_of_a_room_is_bounded(
    hub: Hub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events arrive than the turns can write: the rest is read from the database, and no other room waits."""
    monkeypatch.setattr(fan_out, "FULL_BYTES", 200)
    monkeypatch.setattr(fan_out, "MIN_WRITE_BYTES", 1)
    monkeypatch.setattr(history_source, "PAGE_EVENTS", 20)
    monkeypatch.setattr(room_repairs, "REORDER_SECONDS", 0.001)
    members = [await join(hub) for _ in range(50)]
    monkeypatch.setattr(turn_scheduler, "TURN_BYTES", 30)
    room, waiting, written = hub.rooms["r"], [], []
    for seq in range(1, 1001):
        store.last = seq
        publish(hub, seq, seq)
        if seq % 10 == 0:
            publish_typing(hub, b"somebody types")
        before = sum(len(listener.received) for listener in members)
        await asyncio.sleep(0)
        waiting.append(room._fan_out._waiting_bytes)
        written.append(sum(len(listener.received) for listener in members) - before)
    await asyncio.gather(*(listener.until("1000") for listener in members))
    for listener in members:
        assert listener.numbers == list(range(1, 1001))
    page = len(frames(981, 1000))
    assert 200 < max(waiting) <= 200 + page
    assert max(written) <= 2 * 30, "a turn writes no more because more waits"
    assert store.reads < 200, "page by page"
    newcomer = await join(hub, after=990)
    assert newcomer.numbers == list(range(991, 1001))


@pytest.fixture
async def full_room(hub: Hub, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[HubRoom, int]]:
    """Return a room whose write backlog is full, and its newest number. Each turn writes one byte."""
    monkeypatch.setattr(fan_out, "FULL_BYTES", 100)
    monkeypatch.setattr(fan_out, "MAX_PASS_BYTES", 10)
    monkeypatch.setattr(fan_out, "MIN_WRITE_BYTES", 1)
    monkeypatch.setattr(turn_scheduler, "TURN_BYTES", 1)
    for _ in range(200):
        await join(hub)
    room, seq = hub.rooms["r"], 0
    while not room.full:
        seq += 1
        store.last = seq
        publish(hub, seq, seq)
    yield room, seq


async def test_a_newcomer_to_a_full_room_receives_deletions_applied(
    hub: Hub, store: FakeStore, full_room: tuple[HubRoom, int]
) -> None:
    room, seq = full_room
    store.last = seq + 1
    deletion = Envelope(seq + 1, seq + 1, frames(seq + 1, seq + 1), 1, replaced=[(1, text_frame(b"removed"))])
    hub.receive("r", room, deletion)
    assert room.seq == seq, "a full room accepts no more events"
    newcomer = await join(hub, after=0)
    assert newcomer.received[1] == "removed"


async def test_a_client_ahead_of_a_full_room_is_refused_with_try_later(
    hub: Hub, store: FakeStore, full_room: tuple[HubRoom, int]
) -> None:
    _, seq = full_room
    store.last = seq + 1
    with pytest.raises(Refused) as refused:
        await join(hub, after=seq + 1)
    assert refused.value.code == Code.TRY_LATER
    assert (await join(hub, after=seq - 1)).numbers == [seq]


async def test_a_page_of_history_is_written_to_a_member_in_parts(hub: Hub, store: FakeStore) -> None:
    """In one write it might exceed what a slow reader may have waiting."""
    await join(hub, after=0)
    member, long = Counting(), text_frame("\u4e2d".encode() * 4000)
    room = hub.rooms["r"]
    room.add(member)
    room.park(Run(1, 200, long * 200))
    room.advance()
    async with asyncio.timeout(10):
        while sum(member.received) < 200 * len(long):
            before = len(member.received)
            await asyncio.sleep(0)
            assert len(member.received) <= before + 1, "one write in a turn"
    assert max(member.received) <= MIB


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
    assert member.received == [400]
    await turns_until(lambda: all(each.received for each in large.members))  # type: ignore[attr-defined]


async def test_many_small_rooms_share_the_write_limit_of_a_turn() -> None:
    rooms = [opened() for _ in range(100)]
    members = [Counting() for _ in range(1000)]
    for room in rooms:
        for member in members:
            room.add(member)
        room.park(Run(1, 1, bytes(600)))
        room.advance()
    written = await turns_until(lambda: all(len(member.received) == len(rooms) for member in members))
    assert max(written) <= 8 * MIB


async def test_bursts_in_many_rooms_share_the_write_limit_of_a_turn() -> None:
    rooms = [opened() for _ in range(20)]
    members = [[Counting() for _ in range(50)] for _ in rooms]
    for room, of_room in zip(rooms, members, strict=True):
        for member in of_room:
            room.add(member)
        room.park(Run(1, 60, bytes(MIB)))
        room.advance()
    written = await turns_until(lambda: all(member.received for of_room in members for member in of_room))
    assert max(written) <= 5 * MIB


async def test_one_write_to_a_member_is_at_most_a_mebibyte() -> None:
    """Otherwise it might be disconnected as a slow reader because of data that it had no time to read."""
    room, member = opened(), Counting()
    room.add(member)
    for seq in range(1, 10):
        room.park(Run(seq, seq, bytes(MIB // 2)))
        room.advance()
    await turns_until(lambda: len(member.received) == 5)
    assert member.received == [MIB] * 4 + [MIB // 2]


@pytest.fixture
def one_member_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_scheduler, "TURN_BYTES", 1)


def publish(hub: Hub, first: int, last: int) -> None:
    """Hand events to the hub, as a worker's publish does."""
    hub.receive("r", hub.rooms["r"], Envelope(first, last, frames(first, last), 1))


def publish_typing(hub: Hub, payload: bytes) -> None:
    """Hand a frame without a number to the hub, as typing is."""
    hub.receive("r", hub.rooms["r"], Envelope(frames=text_frame(payload)))


@pytest.mark.usefixtures("one_member_in_a_turn")
async def test_joining_during_a_fan_out_receives_every_event_once(hub: Hub, store: FakeStore) -> None:
    store.last = 10
    members = [await join(hub) for _ in range(5)]
    for seq in range(11, 61):
        store.last = seq
        publish(hub, seq, seq)
        await asyncio.sleep(0)
        if seq % 5 == 0:
            members += [await join(hub, after=8), await join(hub, history=5)]
            assert members[-2].numbers == list(range(9, seq + 1))
    for listener in members:
        await listener.until("60")
        first = listener.numbers[0]
        assert listener.numbers == list(range(first, 61))


@pytest.mark.usefixtures("one_member_in_a_turn")
async def test_leaving_during_a_fan_out_ends_delivery(hub: Hub, store: FakeStore) -> None:
    members = [await join(hub) for _ in range(20)]
    publish(hub, 1, 1)
    while not any(listener.numbers for listener in members):
        await asyncio.sleep(0)
    without_event = [listener for listener in members if not listener.numbers]
    assert without_event
    for listener in without_event[1:]:
        hub.leave("r", listener)
    await without_event[0].until("1")
    await asyncio.sleep(0)
    assert [listener.numbers for listener in without_event] == [[1]] + [[]] * (len(without_event) - 1)


@pytest.mark.usefixtures("one_member_in_a_turn")
async def test_a_fan_out_ends_when_its_room_is_replaced(hub: Hub, store: FakeStore) -> None:
    former = [await join(hub) for _ in range(20)]
    publish(hub, 1, 3)
    await asyncio.sleep(0)
    store.identity = NEW
    store.last = 5
    hub.observe("r", hub.rooms["r"], Observed(NEW, 1, 5))
    before = [list(listener.numbers) for listener in former]
    assert [] in before
    present = await join(hub)
    hub.receive("r", hub.rooms["r"], Envelope(6, 6, frames(6, 6), NEW.key))
    await present.until("6")
    assert present.numbers == [1, 2, 3, 4, 5, 6]
    assert [listener.numbers for listener in former] == before


class Visitor:
    """A member that may join and leave repeatedly. It records what it received since it last joined."""

    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.present = False
        self.joined_at = 0  # number of payloads published before it joined
        self.newest = 0  # the newest number when it joined
        self.received: list[bytes] = []
        self.after_leaving = 0  # number of writes

    def restart(self) -> None:
        raise AssertionError("no member is disconnected here")

    def write_frames(self, frames: bytes) -> None:
        self.after_leaving += not self.present
        self.received += [bytes(payload) for _, payload in payloads(frames)]


SIZES = st.integers(0, 60)
VISITORS = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("event"), SIZES),
    st.tuples(st.just("typing"), SIZES),
    st.tuples(st.just("joins"), VISITORS),
    st.tuples(st.just("leaves"), VISITORS),
    st.tuples(st.just("turns"), st.integers(1, 3)),
    st.tuples(st.just("replaced"), st.integers(0, 9)),
)


@given(st.lists(STEPS, max_size=80), st.sampled_from([1, 60, 300]))
def test_each_member_receives_consecutive_events_in_order(steps: list[tuple[str, int]], turn_bytes: int) -> None:
    """Compare with a model, the list of all payloads: each member has received the first of those after its joining."""
    joins = [("joins", number) for number in range(6)]
    sizes = mock.patch.multiple(fan_out, MAX_PASS_BYTES=100, FULL_BYTES=200, MIN_WRITE_BYTES=1)
    with sizes, mock.patch.object(turn_scheduler, "TURN_BYTES", turn_bytes):
        asyncio.run(_play([*joins, *steps]))


async def _play(steps: list[tuple[str, int]]) -> None:
    room, visitors, published = opened(), [Visitor() for _ in range(6)], list[bytes]()
    for number, (step, argument) in enumerate(steps):
        visitor = visitors[argument % len(visitors)]
        if step == "event":
            published.append(b"%d %s" % (room.seq + 1, b"x" * argument))
            room.park(Run(room.seq + 1, room.seq + 1, text_frame(published[-1])))
            room.advance()
        elif step == "typing":
            published.append(b"typing %d %s" % (number, b"x" * argument))
            room.write(text_frame(published[-1]))
        elif step == "joins" and not visitor.present:
            visitor.present, visitor.joined_at, visitor.newest, visitor.received = True, len(published), room.seq, []
            room.add(visitor)
        elif step == "leaves":
            room.members.discard(visitor)
            visitor.present = False
        elif step == "replaced" and not argument:
            room.members.clear()
            for each in visitors:
                each.present = False
        for _ in range(argument if step == "turns" else 0):
            await asyncio.sleep(0)
        for each in visitors:
            if each.present:
                assert each.received == published[each.joined_at :][: len(each.received)]
                numbers = [int(payload.split()[0]) for payload in each.received if payload[:1] != b"t"]
                assert room.written_to(each) == max([each.newest, *numbers])
    for _ in range(10 * len(published) * len(visitors) + 10):
        await asyncio.sleep(0)
    for each in visitors:
        assert not each.present or each.received == published[each.joined_at :]
        assert not each.after_leaving
    assert not room._fan_out._newcomers
