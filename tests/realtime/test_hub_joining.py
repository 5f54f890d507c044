"""The hub over real Redis: clients join, or return to, a room with a long history."""

import asyncio

import pytest
from tests.realtime.hub import FakeStore, frames, hub, join, publish_events, store

from channelbox.realtime import catch_up
from channelbox.realtime.admission import TABLE, Kind, Limit, Row, Source
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.history_source import Observed, Opened
from channelbox.realtime.hub import Hub
from channelbox.realtime.token_bucket import Bucket


async def test_a_newcomer_receives_the_newest_events(hub: Hub, store: FakeStore) -> None:
    store.last = 120
    listener = await join(hub, history=50)
    assert listener.received[0] == "welcome 120 False"
    assert listener.numbers == list(range(71, 121))


async def test_a_returning_client_catches_up_from_memory(hub: Hub, store: FakeStore) -> None:
    store.last = 120
    await join(hub)
    reads = store.reads
    listener = await join(hub, after=100)
    assert listener.received[0] == "welcome 120 True"
    assert listener.numbers == list(range(101, 121))
    assert store.reads == reads


async def test_events_older_than_the_replay_buffer_are_read(hub: Hub, store: FakeStore) -> None:
    store.last = 900
    listener = await join(hub, after=100)
    assert listener.received[0] == "welcome 900 True"
    assert listener.numbers == list(range(101, 901))


async def test_a_client_too_far_behind_is_not_resumed(hub: Hub, store: FakeStore) -> None:
    store.last = 5000
    listener = await join(hub, after=100)
    assert listener.received[0] == "welcome 5000 False"
    assert listener.gaps == [{"type": "gap", "from": 101, "to": 4950}]
    assert listener.numbers == list(range(4951, 5001))


async def test_a_client_more_than_the_byte_limit_behind_is_not_resumed(
    hub: Hub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "MAX_BYTES", 500)
    store.last = 900
    listener = await join(hub, after=100)
    assert listener.received[0] == "welcome 900 False"
    first = listener.numbers[0]
    assert listener.gaps == [{"type": "gap", "from": 101, "to": first - 1}]
    assert listener.numbers == list(range(first, 901))


async def test_a_client_ahead_of_the_process_makes_the_room_catch_up(hub: Hub, bus: Bus, store: FakeStore) -> None:
    store.last = 3
    other = await join(hub)
    store.last = 750  # published, but not received by this process
    listener = await join(hub, after=749)
    assert listener.received[0] == "welcome 750 True"
    assert listener.numbers == [750]
    await other.until("750")
    assert other.numbers == list(range(1, 751))


async def test_a_client_ahead_of_the_database_starts_over(hub: Hub, store: FakeStore) -> None:
    store.last = 3
    listener = await join(hub, after=7)
    assert listener.received[0] == "welcome 3 False"
    assert listener.numbers == [1, 2, 3]


async def test_events_published_during_a_read_are_received_once(hub: Hub, bus: Bus, store: FakeStore) -> None:
    store.last = 500
    first = await join(hub)

    def publish_during_read() -> None:
        store.last += 1
        room = hub.rooms["r"]
        hub.receive("r", room, Envelope(store.last, store.last, frames(store.last, store.last)))

    store.during_read = publish_during_read
    listener = await join(hub, after=1)
    newest = store.last
    await publish_events(bus, store, newest + 1, newest + 1)
    await listener.until(str(newest + 1))
    await first.until(str(newest + 1))
    assert listener.numbers == list(range(2, newest + 2))


async def test_events_stored_but_not_yet_published_are_received_once(hub: Hub, bus: Bus, store: FakeStore) -> None:
    store.last, store.opens_with = 500, 0  # nothing is in memory
    first = await join(hub)
    store.last = 503  # committed; its publish is on the way
    listener = await join(hub, after=350)
    await first.until("503")
    await publish_events(bus, store, 501, 503)
    await publish_events(bus, store, 504, 504)
    await listener.until("504")
    await first.until("504")
    assert listener.numbers == list(range(351, 505))
    assert first.numbers == list(range(451, 505))


async def test_events_published_while_a_room_opens_are_kept(bus: Bus, store: FakeStore) -> None:
    class Slow(FakeStore):
        async def open(self, name: str) -> Opened:
            opened = await super().open(name)
            await publish_events(bus, self, 1, 1)  # received before the room is open
            await asyncio.sleep(0.1)
            return opened

    hub = Hub(bus, Slow(), "me")
    listener = await join(hub)
    await listener.until("1")
    assert listener.numbers == [1]
    await hub.stop()


async def test_an_outdated_read_does_not_set_the_room_back(hub: Hub, bus: Bus, store: FakeStore) -> None:
    store.last = 10
    first = await join(hub)
    store.last = 12  # published, but not received by this process

    def publish_during_read() -> None:
        store.during_read = lambda: None
        store.last = 15
        hub.receive("r", hub.rooms["r"], Envelope(11, 15, frames(11, 15), 1))

    store.during_read = publish_during_read
    returned = await join(hub, after=12)
    await publish_events(bus, store, 16, 16)
    for listener in (first, returned):
        await listener.until("16")
    assert first.numbers == list(range(1, 17))
    assert returned.numbers == list(range(13, 17))


async def test_clients_rejoining_a_lagging_process_receive_no_duplicates(hub: Hub, store: FakeStore) -> None:
    store.last = 10
    first = await join(hub)
    store.last = 900
    hub.observe("r", hub.rooms["r"], Observed(store.identity, 1, 900))
    crowd = await asyncio.gather(*(join(hub, after=840 + n) for n in range(20)))
    await first.until("900")
    assert first.numbers == list(range(1, 901))
    for number, listener in enumerate(crowd):
        assert listener.numbers == list(range(841 + number, 901))


async def test_all_catch_ups_together_are_limited(hub: Hub, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that request much and do not read it would fill the memory of the process."""
    monkeypatch.setattr(catch_up, "GUARANTEED_BYTES", 100)
    store.last = 900
    await join(hub)
    hub._catch_ups.sent = Bucket(0.001, 2 * len(frames(101, 900)))
    complete = [await join(hub, after=100) for _ in range(2)]
    assert all(each.numbers == list(range(101, 901)) for each in complete)
    limited = await join(hub, after=100)
    assert limited.received[0] == "welcome 900 False"
    assert limited.gaps == [{"type": "gap", "from": 101, "to": 880}]
    assert limited.numbers == list(range(881, 901)), "five bytes each"
    newcomer = await join(hub, history=800)
    assert newcomer.gaps == []
    assert newcomer.numbers == list(range(881, 901))
    small = await join(hub, after=890)
    assert small.numbers == list(range(891, 901))
    hub.receive("r", hub.rooms["r"], Envelope(901, 901, frames(901, 901), 1))
    await limited.until("901")


@pytest.mark.parametrize("opens_with", [900, 0], ids=["from memory", "from the record"])
async def test_one_address_gets_a_limited_share_of_catch_ups(
    hub: Hub, store: FakeStore, monkeypatch: pytest.MonkeyPatch, opens_with: int
) -> None:
    monkeypatch.setattr(catch_up, "GUARANTEED_BYTES", 100)
    much = len(frames(101, 900))
    limit = Limit(0.001, 2 * much)
    monkeypatch.setitem(TABLE, Kind.CATCH_UPS, Row(person=lambda: limit, address=lambda: limit))
    store.last, store.opens_with = 900, opens_with
    hub._catch_ups.sent = Bucket(0.001, 4 * much)
    for person in range(50):  # each is another person
        listener = await join(hub, after=100, source=Source("192.0.2.1", f"g:{person}"))
        assert (listener.gaps == []) is (person < 2)
    second_address = await join(hub, after=100, source=Source("192.0.2.2", "g:50"))
    assert (second_address.gaps, second_address.numbers) == ([], list(range(101, 901)))
    other_address = await join(hub, after=100, source=Source("192.0.2.3", "g:0"))
    assert other_address.gaps == []
    over = await join(hub, after=100, source=Source("192.0.2.4", "g:51"))
    assert over.gaps, "all together are limited"


async def test_concurrent_joins_of_one_address_stay_within_its_share(
    hub: Hub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "GUARANTEED_BYTES", 100)
    limit = Limit(0.001, 2 * len(frames(101, 900)))
    monkeypatch.setitem(TABLE, Kind.CATCH_UPS, Row(person=lambda: limit, address=lambda: limit))
    store.last, store.opens_with = 900, 0
    held: list[int] = []
    store.during_read = lambda: held.append(hub._catch_ups.held)
    crowd = [join(hub, after=100 + n, source=Source("192.0.2.1", f"g:{n}")) for n in range(50)]
    listeners = await asyncio.gather(*crowd)
    assert max(held) < 4 * len(frames(101, 900))
    assert sum(not listener.gaps for listener in listeners) <= 3
    for listener in listeners:
        announced = {seq for gap in listener.gaps for seq in range(gap["from"], gap["to"] + 1)}
        assert sorted([*announced, *listener.numbers])[-1] == 900
        assert not announced & set(listener.numbers)


async def test_a_newcomer_beyond_the_catch_up_limit_receives_a_gap(
    hub: Hub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "GUARANTEED_BYTES", 4)
    store.last = 900
    hub._catch_ups.sent = Bucket(0.001, 1)
    hub._catch_ups.sent.spend()
    newcomer = await join(hub, history=50)
    assert newcomer.received[0] == "welcome 900 False"
    assert newcomer.gaps == [{"type": "gap", "from": 851, "to": 900}]
    hub.receive("r", hub.rooms["r"], Envelope(901, 901, frames(901, 901), 1))
    await newcomer.until("901")


async def test_a_newcomer_receives_a_gap_if_a_page_exceeds_the_byte_limit(
    hub: Hub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "MAX_BYTES", 999)
    store.last, store.opens_with = 1000, 0  # all of it is read, in pages of a thousand bytes
    newcomer = await join(hub, history=600)
    assert newcomer.gaps == [{"type": "gap", "from": 401, "to": 1000}]
    assert newcomer.numbers == []


async def test_data_held_for_joins_in_progress_is_limited(
    hub: Hub, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read for joins is held until the slowest of their reads is done."""
    monkeypatch.setattr(catch_up, "GUARANTEED_BYTES", 1000)  # two hundred events
    store.last, store.opens_with = 900, 0
    hub._catch_ups.max_held = 2500
    alone = await join(hub, after=400)
    assert (alone.gaps, alone.numbers) == ([], list(range(401, 901)))
    hub._catch_ups.held = 2000  # by other joins
    beside = await join(hub, after=400)
    assert beside.gaps == [{"type": "gap", "from": 401, "to": 800}]
    assert beside.numbers == list(range(801, 901))
    assert hub._catch_ups.held == 2000
