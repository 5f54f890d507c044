"""Unexpected errors in background tasks of the hub are counted, and the room continues to work."""

import pytest
from tests.realtime.hub import NEW, FakeStore, frames, hub, join, publish_events, store
from tests.support.waiting import until

from channelbox.realtime import background_tasks
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.errors import Refused
from channelbox.realtime.hub import Hub
from channelbox.realtime.hub_room import HubRoom, Run

__all__ = ["hub", "store"]


class FailingFirst:
    """A function that raises ZeroDivisionError in the first calls, and calls the original in the others."""

    def __init__(self, original: object, times: int) -> None:
        self.original = original
        self.times = times

    def __call__(self, *args: object) -> object:
        if self.times:
            self.times -= 1
            raise ZeroDivisionError
        return self.original(*args)  # type: ignore[operator]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_tasks, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def restarted() -> int:
    """Return how many failures were counted before the test."""
    return counters.restarted


async def test_an_unexpected_read_error_is_counted_and_retried(
    hub: Hub, bus: Bus, store: FakeStore, restarted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = await join(hub)
    monkeypatch.setattr(store, "after", FailingFirst(store.after, 2))
    store.last = 2
    await publish_events(bus, store, 3, 3)
    await listener.until("3")
    assert listener.numbers == [1, 2, 3]
    assert counters.restarted == restarted + 2


async def test_an_unavailable_database_is_not_counted_as_a_task_failure(
    hub: Hub, bus: Bus, store: FakeStore, restarted: int
) -> None:
    listener = await join(hub)
    store.failures, store.last = 2, 2
    await publish_events(bus, store, 3, 3)
    await listener.until("3")
    assert counters.restarted == restarted


async def test_a_failed_repair_is_counted_and_restarted(
    hub: Hub, bus: Bus, store: FakeStore, restarted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = await join(hub)
    park, broken = HubRoom.park, [True]

    def fail_once(room: HubRoom, run: Run) -> None:
        if run.first == 1 and broken:
            broken.pop()
            raise ZeroDivisionError
        park(room, run)

    monkeypatch.setattr(HubRoom, "park", fail_once)
    store.last = 2
    await publish_events(bus, store, 3, 3)
    await listener.until("3")
    assert listener.numbers == [1, 2, 3]
    assert counters.restarted == restarted + 1
    store.last = 4
    await publish_events(bus, store, 5, 5)
    await listener.until("5")


async def test_a_failed_opening_is_counted_and_the_next_one_succeeds(
    hub: Hub, store: FakeStore, restarted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "open", FailingFirst(store.open, 1))
    with pytest.raises(Refused):
        await join(hub)
    assert counters.restarted == restarted + 1
    store.last = 1
    assert (await join(hub)).numbers == [1]


async def test_a_failed_comparison_is_counted_and_the_room_can_be_joined(
    hub: Hub, bus: Bus, store: FakeStore, restarted: int
) -> None:
    await join(hub)
    room = hub.rooms["r"]
    hub.on_replaced = FailingFirst(None, 1)  # type: ignore[assignment]
    store.identity = NEW
    hub.receive("r", room, Envelope(1, 1, frames(1, 1), NEW.key))
    await until(lambda: counters.restarted == restarted + 1)
    assert room.check is None
    assert (await join(hub)).received[0] == "welcome 0 False"
