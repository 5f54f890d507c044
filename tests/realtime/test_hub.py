"""The hub over real Redis. The record is a list in memory, so that it can fail, lag and count its reads."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channelbox.realtime import hub as hub_module
from channelbox.realtime import keys
from channelbox.realtime import room as room_module
from channelbox.realtime.bus import Bus
from channelbox.realtime.codes import Close, Refused
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import BatchOutcome, BatchRef, Envelope
from channelbox.realtime.frames import payloads, text_frame
from channelbox.realtime.hub import Hello, Hub
from channelbox.realtime.record import NO_ROOM, Identity, Observed, Opened
from channelbox.realtime.room import Run, gone
from channelbox.realtime.token_bucket import Bucket


def frames(first: int, last: int) -> bytes:
    return b"".join(text_frame(b"%d" % seq) for seq in range(first, last + 1))


class Record:
    """What was said: the numbers 1 .. last, but for those that are missing."""

    def __init__(self, last: int = 0, opens_with: int = 200) -> None:
        self.identity = Identity(1, "epoch")
        self.floor = 1
        self.missing: set[int] = set()
        self.last = last
        self.opens_with = opens_with
        self.reads = 0
        self.failures = 0
        self.during_read: Callable[[], None] = lambda: None

    def _read(self) -> None:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise OSError("the record is away")

    async def open(self, name: str) -> Opened:
        self._read()
        first = self.last + 1
        while first > max(1, self.floor, self.last - self.opens_with + 1) and first - 1 not in self.missing:
            first -= 1
        return Opened(self.identity, self.floor, Run(first, self.last, frames(first, self.last)))

    async def after(self, name: str, identity: Identity, seq: int, most: int) -> Run:
        self._read()
        if identity != self.identity:
            raise LookupError("made anew")
        there = [n for n in range(seq + 1, self.last + 1) if n >= self.floor and n not in self.missing]
        await asyncio.sleep(0)
        self.during_read()
        if seq < self.last and there[:1] != [seq + 1]:
            return gone(seq + 1, there[0] - 1 if there else self.last)
        last = seq
        while last + 1 in there[:most]:
            last += 1
        return Run(seq + 1, last, frames(seq + 1, last))


class Listener:
    """A member that remembers what it was written."""

    def __init__(self) -> None:
        self.on_lost: Callable[[], None] | None = None
        self.heard: list[str] = []
        self._more = asyncio.Event()

    def restart(self) -> None:
        self.heard.append("restart")
        self._more.set()

    def write_frames(self, frames: bytes) -> None:
        self.heard += [bytes(payload).decode() for _, payload in payloads(frames)]
        self._more.set()

    @property
    def numbers(self) -> list[int]:
        return [int(word) for word in self.heard if word.isdigit()]

    @property
    def gaps(self) -> list[dict[str, Any]]:
        return [json.loads(word) for word in self.heard if word.startswith("{")]

    async def until(self, word: str) -> None:
        async with asyncio.timeout(10):
            while word not in self.heard:
                self._more.clear()
                await self._more.wait()


def greet(hello: Hello) -> bytes:
    return text_frame(f"welcome {hello.newest} {hello.resumed}".encode())


@pytest.fixture
async def record() -> Record:
    return Record()


@pytest.fixture
async def hub(bus: Bus, record: Record) -> AsyncIterator[Hub]:
    hub = Hub(bus, record, "me")
    yield hub
    await hub.stop()


async def told(bus: Bus, record: Record, first: int, last: int, *outcomes: BatchOutcome) -> None:
    """A worker's commit and its publish."""
    record.last = max(record.last, last)
    envelope = Envelope(first, last, frames(first, last), record.identity.key, outcomes)
    await bus.publish(keys.room("r"), envelope.pack())


async def joined(hub: Hub, after: int | None = None, history: int = 50, identity: Identity | None = None) -> Listener:
    """A member of the room that the record has, or of the one that it had when the member was let in."""
    listener = Listener()
    record: Any = hub._store
    await hub.join("r", identity or record.identity, listener, after, history, greet)
    return listener


async def test_it_works(hub: Hub, bus: Bus, record: Record) -> None:
    listener = await joined(hub)
    await told(bus, record, 1, 1)
    await told(bus, record, 2, 4)
    await listener.until("4")
    assert listener.heard == ["welcome 0 False", "1", "2", "3", "4"]


async def test_crossed_doubled_and_lost_publishes_come_in_order_without_gap_or_double(
    hub: Hub, bus: Bus, record: Record
) -> None:
    draw = random.Random(7)
    listeners = [await joined(hub) for _ in range(5)]
    runs, last = [], 0
    while last < 300:
        size = draw.randint(1, 4)
        runs.append((last + 1, last + size))
        last += size
    record.last = last
    lost = draw.sample(runs[:-1], 20)
    sent = [run for run in runs if run not in lost] + draw.sample(runs, 20)
    sent.sort(key=lambda run: run[0] + draw.randint(-10, 10))
    for run in [*sent, runs[-1]]:
        await told(bus, record, *run)
    for listener in listeners:
        await listener.until(str(last))
        assert listener.numbers == list(range(1, last + 1))


async def test_a_hole_is_read_once_for_all_members(hub: Hub, bus: Bus, record: Record) -> None:
    listeners = [await joined(hub) for _ in range(50)]
    reads = record.reads
    record.last = 10
    await told(bus, record, 11, 11)
    for listener in listeners:
        await listener.until("11")
        assert listener.numbers == list(range(1, 12))
    assert record.reads == reads + 1


async def test_a_repair_goes_on_after_the_record_has_failed(hub: Hub, bus: Bus, record: Record) -> None:
    listener = await joined(hub)
    record.failures = 3
    record.last = 2
    await told(bus, record, 3, 3)
    await listener.until("3")
    assert listener.numbers == [1, 2, 3]
    record.last = 4
    await told(bus, record, 5, 5)
    await listener.until("5")


async def test_a_room_known_to_be_behind_is_repaired(hub: Hub, record: Record) -> None:
    listener = await joined(hub)
    record.last = 6
    hub.observe("r", hub.rooms["r"], Observed(record.identity, 1, 6))
    await listener.until("6")
    assert listener.numbers == [1, 2, 3, 4, 5, 6]


async def test_a_publish_that_only_tells_the_newest_number_is_a_hint_to_read(
    hub: Hub, bus: Bus, record: Record
) -> None:
    listener = await joined(hub)
    record.last = 2
    await bus.publish(keys.room("r"), Envelope(last=2).pack())
    await listener.until("2")


async def test_runs_that_overlap_are_written_once(hub: Hub, bus: Bus, record: Record) -> None:
    listener = await joined(hub)
    for run in ((1, 3), (2, 5), (4, 6), (1, 7)):
        await told(bus, record, *run)
    await listener.until("7")
    assert listener.numbers == [1, 2, 3, 4, 5, 6, 7]


async def test_a_newcomer_gets_the_last_of_the_history(hub: Hub, record: Record) -> None:
    record.last = 120
    listener = await joined(hub, history=50)
    assert listener.heard[0] == "welcome 120 False"
    assert listener.numbers == list(range(71, 121))


async def test_who_comes_back_gets_what_it_missed_from_memory(hub: Hub, record: Record) -> None:
    record.last = 120
    await joined(hub)
    reads = record.reads
    listener = await joined(hub, after=100)
    assert listener.heard[0] == "welcome 120 True"
    assert listener.numbers == list(range(101, 121))
    assert record.reads == reads


async def test_what_is_older_than_memory_is_read(hub: Hub, record: Record) -> None:
    record.last = 900
    listener = await joined(hub, after=100)
    assert listener.heard[0] == "welcome 900 True"
    assert listener.numbers == list(range(101, 901))


async def test_too_far_back_is_told_by_the_greeting(hub: Hub, record: Record) -> None:
    record.last = 5000
    listener = await joined(hub, after=100)
    assert listener.heard[0] == "welcome 5000 False"
    assert listener.gaps == [{"type": "gap", "from": 101, "to": 4950}]
    assert listener.numbers == list(range(4951, 5001))


async def test_more_than_a_mebibyte_behind_is_no_resumption(
    hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "CATCH_UP_BYTES", 500)
    record.last = 900
    listener = await joined(hub, after=100)
    assert listener.heard[0] == "welcome 900 False"
    first = listener.numbers[0]
    assert listener.gaps == [{"type": "gap", "from": 101, "to": first - 1}]
    assert listener.numbers == list(range(first, 901))


async def test_who_has_heard_more_elsewhere_is_met_there(hub: Hub, bus: Bus, record: Record) -> None:
    record.last = 3
    other = await joined(hub)
    record.last = 750  # told while this process could not hear it
    listener = await joined(hub, after=749)
    assert listener.heard[0] == "welcome 750 True"
    assert listener.numbers == [750]
    await other.until("750")
    assert other.numbers == list(range(1, 751))


async def test_who_has_heard_more_than_the_record_has_begins_anew(hub: Hub, record: Record) -> None:
    record.last = 3
    listener = await joined(hub, after=7)
    assert listener.heard[0] == "welcome 3 False"
    assert listener.numbers == [1, 2, 3]


async def test_what_is_published_during_the_read_is_neither_missed_nor_doubled(
    hub: Hub, bus: Bus, record: Record
) -> None:
    record.last = 500
    first = await joined(hub)

    def more() -> None:
        record.last += 1
        room = hub.rooms["r"]
        hub.heard("r", room, Envelope(record.last, record.last, frames(record.last, record.last)))

    record.during_read = more
    listener = await joined(hub, after=1)
    newest = record.last
    await told(bus, record, newest + 1, newest + 1)
    await listener.until(str(newest + 1))
    await first.until(str(newest + 1))
    assert listener.numbers == list(range(2, newest + 2))


async def test_what_was_stored_and_not_yet_heard_comes_once_to_who_reads_it_and_to_who_is_here(
    hub: Hub, bus: Bus, record: Record
) -> None:
    record.last, record.opens_with = 500, 0  # nothing is in memory
    first = await joined(hub)
    record.last = 503  # committed; its publish is on the way
    listener = await joined(hub, after=350)
    await first.until("503")
    await told(bus, record, 501, 503)
    await told(bus, record, 504, 504)
    await listener.until("504")
    await first.until("504")
    assert listener.numbers == list(range(351, 505))
    assert first.numbers == list(range(451, 505))


NEW = Identity(2, "another epoch")


async def test_a_room_that_was_removed_and_made_anew_begins_anew(hub: Hub, bus: Bus, record: Record) -> None:
    replaced: list[int] = []
    hub.on_replaced = replaced.append
    record.last = 100
    old = await joined(hub)
    before, former = counters.rooms, record.identity
    record.identity, record.last = NEW, 0
    new = [await joined(hub), await joined(hub, after=100)]
    assert [each.heard for each in new] == [["welcome 0 False"]] * 2
    assert replaced == [1], "whose members have to go"
    await told(bus, record, 1, 1)
    for each in new:
        await each.until("1")
    assert old.numbers == list(range(51, 101))
    hub.leave("r", old)
    assert len(hub.rooms["r"].members) == 2
    assert counters.rooms == before
    with pytest.raises(Refused) as refused:  # looked up before it was removed
        await joined(hub, identity=former)
    assert refused.value.close == Close.TRY_LATER
    assert len(hub.rooms["r"].members) == 2


async def test_a_restored_backup_is_not_spliced_onto_what_was_said_after_it(hub: Hub, bus: Bus, record: Record) -> None:
    record.last = 15
    await joined(hub)
    record.identity, record.last = Identity(1, "another epoch"), 10
    hub.observe("r", hub.rooms["r"], Observed(record.identity, 1, 10))
    assert "r" not in hub.rooms
    listener = await joined(hub)
    await told(bus, record, 11, 11)
    await listener.until("11")
    assert listener.numbers == list(range(1, 12))


async def test_what_is_published_for_the_former_room_of_a_name_is_not_written_in_the_new_one(
    hub: Hub, bus: Bus, record: Record
) -> None:
    listener = await joined(hub)
    late = Envelope(1, 3, frames(1, 3), key=99)
    await bus.publish(keys.room("r"), late.pack())
    await told(bus, record, 1, 1)
    await listener.until("1")
    await told(bus, record, 2, 2)
    await listener.until("2")
    assert listener.numbers == [1, 2]


# --- Numbers that are no longer in the record


def gap(first: int, last: int) -> dict[str, Any]:
    return {"type": "gap", "from": first, "to": last, "gone": True}


@pytest.mark.parametrize("missing", [{97}, {100}, {51, 52, 53}, {51, 70, 71, 100}, set(range(40, 101))], ids=str)
async def test_a_room_with_missing_numbers_can_be_entered(hub: Hub, record: Record, missing: set[int]) -> None:
    record.last, record.missing = 100, missing
    newcomer = await joined(hub)
    assert newcomer.numbers == [n for n in range(51, 101) if n not in missing]
    returned = await joined(hub, after=60)
    assert returned.heard[0] == "welcome 100 True"
    assert returned.numbers == [n for n in range(61, 101) if n not in missing]
    told_gone = {n for each in returned.gaps for n in range(each["from"], each["to"] + 1)}
    assert told_gone == {n for n in missing if n > 60}
    assert all(each["gone"] for each in returned.gaps)


async def test_a_gap_stands_where_its_events_would_have_come(hub: Hub, record: Record) -> None:
    record.last, record.missing = 6, {3, 4}
    listener = await joined(hub, after=1)
    assert listener.heard[1:2] == ["2"]
    assert json.loads(listener.heard[2]) == gap(3, 4)
    assert listener.heard[3:] == ["5", "6"]


async def test_a_hole_that_is_not_in_the_record_is_stepped_over(hub: Hub, bus: Bus, record: Record) -> None:
    listener = await joined(hub)
    record.missing = {1, 2}
    await told(bus, record, 3, 4)
    await listener.until("4")
    assert listener.gaps == [gap(1, 2)]
    assert listener.numbers == [3, 4]
    later = await joined(hub, after=0)
    assert (later.gaps, later.numbers) == ([gap(1, 2)], [3, 4])


async def test_what_is_below_the_floor_is_gone(hub: Hub, record: Record) -> None:
    record.last, record.floor = 5000, 4990
    newcomer = await joined(hub)
    assert newcomer.numbers == list(range(4990, 5001))
    assert newcomer.gaps == []
    returned = await joined(hub, after=17)  # everything that is still there follows
    assert returned.heard[0] == "welcome 5000 True"
    assert returned.gaps == [gap(18, 4989)]
    assert returned.numbers == list(range(4990, 5001))


async def test_what_is_gone_and_what_is_too_much_are_told_apart(hub: Hub, record: Record) -> None:
    record.last, record.floor = 5000, 1000
    returned = await joined(hub, after=17)
    assert returned.heard[0] == "welcome 5000 False"
    assert returned.gaps == [gap(18, 999), {"type": "gap", "from": 1000, "to": 4950}]


async def test_what_is_published_between_subscription_and_reading_is_kept(bus: Bus, record: Record) -> None:
    class Slow(Record):
        async def open(self, name: str) -> Opened:
            opened = await super().open(name)
            await told(bus, self, 1, 1)  # heard before the answer is there
            await asyncio.sleep(0.1)
            return opened

    hub = Hub(bus, Slow(), "me")
    listener = await joined(hub)
    await listener.until("1")
    assert listener.numbers == [1]
    await hub.stop()


async def test_the_outcomes_of_the_own_batches_are_handed_over(hub: Hub, bus: Bus, record: Record) -> None:
    heard: list[BatchOutcome] = []
    hub.on_outcome = heard.append
    listener = await joined(hub)
    mine = BatchOutcome(BatchRef("me", 5), [1, 7, 0], frozenset({1}), {2: ("refused", "No.")})
    await told(bus, record, 1, 1, mine, BatchOutcome(BatchRef("other", 6), [1]))
    await listener.until("1")
    assert heard == [mine]


async def test_frames_without_a_number_go_out_at_once(hub: Hub, bus: Bus) -> None:
    listener = await joined(hub)
    await bus.publish(keys.room("r"), Envelope(frames=text_frame(b"typing")).pack())
    await listener.until("typing")


async def test_a_room_that_cannot_be_opened_is_told_and_can_be_tried_again(hub: Hub, record: Record) -> None:
    record.failures = 1
    with pytest.raises(Refused) as refused:
        await joined(hub)
    assert refused.value.close == Close.TRY_LATER
    assert not hub.rooms
    assert (await joined(hub)).heard == ["welcome 0 False"]


async def test_an_empty_room_is_closed_after_a_while_and_opens_again(
    hub: Hub, bus: Bus, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 0.0)
    listener = await joined(hub)
    hub.leave("r", listener)
    async with asyncio.timeout(5):
        while hub.rooms:
            await asyncio.sleep(0.01)
    again = await joined(hub)
    await told(bus, record, 1, 1)
    await again.until("1")
    assert listener.numbers == []


async def test_a_member_that_left_hears_no_more(hub: Hub, bus: Bus, record: Record) -> None:
    gone, stays = await joined(hub), await joined(hub)
    hub.leave("r", gone)
    await told(bus, record, 1, 1)
    await stays.until("1")
    assert gone.numbers == []


async def test_what_comes_in_one_turn_goes_out_in_one_write(
    hub: Hub, bus: Bus, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    listener = await joined(hub)
    monkeypatch.setattr(listener, "write_frames", writes.append)
    room = hub.rooms["r"]
    for seq in range(1, 11):
        hub.heard("r", room, Envelope(seq, seq, frames(seq, seq)))
    await asyncio.sleep(0)
    assert writes == [frames(1, 10)]


async def test_a_number_that_is_not_in_the_record_is_not_looked_for_for_ever(
    hub: Hub, bus: Bus, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "REPAIR_LONGEST_PAUSE", 0.1)
    listener = await joined(hub)
    room = hub.rooms["r"]
    await bus.publish(keys.room("r"), Envelope(last=10**15).pack())
    await bus.publish(keys.room("r"), Envelope(10**15, 10**15, frames(1, 1)).pack())
    async with asyncio.timeout(10):
        while not room.parked:
            await asyncio.sleep(0.01)
        while room.repair is not None:
            await asyncio.sleep(0.01)
    assert not room.parked
    await told(bus, record, 1, 2)
    await listener.until("2")
    assert listener.numbers == [1, 2]


async def test_a_read_that_others_have_overtaken_turns_no_number_back(hub: Hub, bus: Bus, record: Record) -> None:
    record.last = 10
    first = await joined(hub)
    record.last = 12  # told while this process could not hear it

    def more() -> None:
        record.during_read = lambda: None
        record.last = 15
        hub.heard("r", hub.rooms["r"], Envelope(11, 15, frames(11, 15), 1))

    record.during_read = more
    returned = await joined(hub, after=12)
    await told(bus, record, 16, 16)
    for listener in (first, returned):
        await listener.until("16")
    assert first.numbers == list(range(1, 17))
    assert returned.numbers == list(range(13, 17))


async def test_a_crowd_that_returns_to_a_process_that_is_behind_hears_nothing_twice(hub: Hub, record: Record) -> None:
    record.last = 10
    first = await joined(hub)
    record.last = 900
    hub.observe("r", hub.rooms["r"], Observed(record.identity, 1, 900))
    crowd = await asyncio.gather(*(joined(hub, after=840 + n) for n in range(20)))
    await first.until("900")
    assert first.numbers == list(range(1, 901))
    for number, listener in enumerate(crowd):
        assert listener.numbers == list(range(841 + number, 901))


async def test_an_answer_that_is_older_than_a_room_says_nothing_of_it(hub: Hub, bus: Bus, record: Record) -> None:
    await joined(hub)
    before = hub.rooms["r"]
    record.identity, record.last = NEW, 0
    person = await joined(hub)
    hub.observe("r", before, NO_ROOM)
    await told(bus, record, 1, 1)
    await person.until("1")


async def test_a_member_of_a_room_that_is_no_more_is_sent_away(
    hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "ORPHANED_SECONDS", 0.01)
    person = await joined(hub)
    hub.observe("r", hub.rooms["r"], NO_ROOM)
    await person.until("restart")


async def test_nothing_of_another_room_of_the_name_is_read_for_the_members(hub: Hub, record: Record) -> None:
    record.last = 10
    person = await joined(hub)
    room = hub.rooms["r"]
    record.identity, record.last = NEW, 14
    room.known = 12  # heard of, and not heard
    hub._advance("r", room)
    reads = record.reads
    async with asyncio.timeout(10):
        while record.reads == reads:
            await asyncio.sleep(0.01)
    assert person.numbers == list(range(1, 11))


async def test_a_hole_at_the_end_is_told_to_everybody_who_comes(hub: Hub, bus: Bus, record: Record) -> None:
    record.last = 10
    await joined(hub)
    record.last, record.missing = 15, {11, 12, 13, 14, 15}
    hub.observe("r", hub.rooms["r"], Observed(record.identity, 1, 15))
    async with asyncio.timeout(10):
        while hub.rooms["r"].seq < 15:
            await asyncio.sleep(0.01)
    returned = await joined(hub, after=8)
    assert (returned.numbers, returned.gaps) == ([9, 10], [gap(11, 15)])


async def test_what_waits_for_a_hole_to_be_read_is_bounded(
    hub: Hub, bus: Bus, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_module, "MAX_PARKED_BYTES", 100)
    person = await joined(hub)
    room = hub.rooms["r"]
    record.failures = 1_000_000
    record.last = 1000
    for seq in range(2, 1001):  # the first was lost
        hub.heard("r", room, Envelope(seq, seq, frames(seq, seq), 1))
    assert len(room.parked) < 50
    record.failures = 0
    await person.until("1000")
    assert person.numbers == list(range(1, 1001))


async def test_catch_ups_have_a_bound_together(hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who ask for much and do not read it would fill the memory of the process."""
    monkeypatch.setattr(hub_module, "SMALL_CATCH_UP_BYTES", 100)
    record.last = 900
    await joined(hub)
    hub._catch_ups = Bucket(0.001, 2 * len(frames(101, 900)))
    whole = [await joined(hub, after=100) for _ in range(2)]
    assert all(each.numbers == list(range(101, 901)) for each in whole)
    less = await joined(hub, after=100)
    assert less.heard[0] == "welcome 900 False"
    assert less.gaps == [{"type": "gap", "from": 101, "to": 900}]
    assert less.numbers == []
    little = await joined(hub, after=890)
    assert little.numbers == list(range(891, 901))
    hub.heard("r", hub.rooms["r"], Envelope(901, 901, frames(901, 901), 1))
    await less.until("901")
