"""The hub over real Redis: somebody comes, or comes back, to a room where much was said."""

import asyncio

import pytest
from tests.realtime.hub import Record, frames, hub, joined, record, told

from channelbox.realtime import catch_up
from channelbox.realtime.admission import TABLE, Kind, Limit, Row, Source
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.history_source import Observed, Opened
from channelbox.realtime.hub import Hub
from channelbox.realtime.token_bucket import Bucket


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
    monkeypatch.setattr(catch_up, "MAX_BYTES", 500)
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
        hub.receive("r", room, Envelope(record.last, record.last, frames(record.last, record.last)))

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


async def test_a_read_that_others_have_overtaken_turns_no_number_back(hub: Hub, bus: Bus, record: Record) -> None:
    record.last = 10
    first = await joined(hub)
    record.last = 12  # told while this process could not hear it

    def more() -> None:
        record.during_read = lambda: None
        record.last = 15
        hub.receive("r", hub.rooms["r"], Envelope(11, 15, frames(11, 15), 1))

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


async def test_catch_ups_have_a_bound_together(hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who ask for much and do not read it would fill the memory of the process."""
    monkeypatch.setattr(catch_up, "GUARANTEED_BYTES", 100)
    record.last = 900
    await joined(hub)
    hub._catch_ups.sent = Bucket(0.001, 2 * len(frames(101, 900)))
    whole = [await joined(hub, after=100) for _ in range(2)]
    assert all(each.numbers == list(range(101, 901)) for each in whole)
    less = await joined(hub, after=100)
    assert less.heard[0] == "welcome 900 False"
    assert less.gaps == [{"type": "gap", "from": 101, "to": 880}]
    assert less.numbers == list(range(881, 901)), "five bytes each"
    newcomer = await joined(hub, history=800)
    assert newcomer.gaps == []
    assert newcomer.numbers == list(range(881, 901))
    little = await joined(hub, after=890)
    assert little.numbers == list(range(891, 901))
    hub.receive("r", hub.rooms["r"], Envelope(901, 901, frames(901, 901), 1))
    await less.until("901")


@pytest.mark.parametrize("opens_with", [900, 0], ids=["from memory", "from the record"])
async def test_one_address_has_a_share_of_what_all_may_miss(
    hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch, opens_with: int
) -> None:
    monkeypatch.setattr(catch_up, "GUARANTEED_BYTES", 100)
    much = len(frames(101, 900))
    limit = Limit(0.001, 2 * much)
    monkeypatch.setitem(TABLE, Kind.CATCH_UPS, Row(person=lambda: limit, address=lambda: limit))
    record.last, record.opens_with = 900, opens_with
    hub._catch_ups.sent = Bucket(0.001, 4 * much)
    for person in range(50):  # each is somebody else
        listener = await joined(hub, after=100, source=Source("192.0.2.1", f"g:{person}"))
        assert (listener.gaps == []) is (person < 2)
    elsewhere = await joined(hub, after=100, source=Source("192.0.2.2", "g:50"))
    assert (elsewhere.gaps, elsewhere.numbers) == ([], list(range(101, 901)))
    there_too = await joined(hub, after=100, source=Source("192.0.2.3", "g:0"))
    assert there_too.gaps == []
    over = await joined(hub, after=100, source=Source("192.0.2.4", "g:51"))
    assert over.gaps, "there is a bound for all together"


async def test_joins_of_one_address_under_way_at_once_hold_no_more_than_its_share(
    hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "GUARANTEED_BYTES", 100)
    limit = Limit(0.001, 2 * len(frames(101, 900)))
    monkeypatch.setitem(TABLE, Kind.CATCH_UPS, Row(person=lambda: limit, address=lambda: limit))
    record.last, record.opens_with = 900, 0
    held: list[int] = []
    record.during_read = lambda: held.append(hub._catch_ups.held)
    crowd = [joined(hub, after=100 + n, source=Source("192.0.2.1", f"g:{n}")) for n in range(50)]
    listeners = await asyncio.gather(*crowd)
    assert max(held) < 4 * len(frames(101, 900))
    assert sum(not listener.gaps for listener in listeners) <= 3
    for listener in listeners:
        told = {seq for gap in listener.gaps for seq in range(gap["from"], gap["to"] + 1)}
        assert sorted([*told, *listener.numbers])[-1] == 900
        assert not told & set(listener.numbers)


async def test_a_newcomer_for_whom_nothing_fits_is_told_of_a_gap(
    hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "GUARANTEED_BYTES", 4)
    record.last = 900
    hub._catch_ups.sent = Bucket(0.001, 1)
    hub._catch_ups.sent.spend()
    newcomer = await joined(hub, history=50)
    assert newcomer.heard[0] == "welcome 900 False"
    assert newcomer.gaps == [{"type": "gap", "from": 851, "to": 900}]
    hub.receive("r", hub.rooms["r"], Envelope(901, 901, frames(901, 901), 1))
    await newcomer.until("901")


async def test_a_newcomer_whose_history_ends_with_a_full_mebibyte_is_told_of_a_gap(
    hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "MAX_BYTES", 999)
    record.last, record.opens_with = 1000, 0  # all of it is read, in pages of a thousand bytes
    newcomer = await joined(hub, history=600)
    assert newcomer.gaps == [{"type": "gap", "from": 401, "to": 1000}]
    assert newcomer.numbers == []


async def test_joins_under_way_hold_so_much_together(hub: Hub, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read for them waits for all of it, and so for the slowest."""
    monkeypatch.setattr(catch_up, "GUARANTEED_BYTES", 1000)  # two hundred events
    record.last, record.opens_with = 900, 0
    hub._catch_ups.max_held = 2500
    alone = await joined(hub, after=400)
    assert (alone.gaps, alone.numbers) == ([], list(range(401, 901)))
    hub._catch_ups.held = 2000  # of others
    beside = await joined(hub, after=400)
    assert beside.gaps == [{"type": "gap", "from": 401, "to": 800}]
    assert beside.numbers == list(range(801, 901))
    assert hub._catch_ups.held == 2000
