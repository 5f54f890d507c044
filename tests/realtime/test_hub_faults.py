"""What nobody expected ends no background task of the hub unseen: it is counted, and the room goes on."""

import pytest
from tests.realtime.hub import NEW, Record, frames, hub, joined, record, told
from tests.support.waiting import until

from channelbox.realtime import background_tasks
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.errors import Refused
from channelbox.realtime.hub import Hub
from channelbox.realtime.hub_room import HubRoom, Run

__all__ = ["hub", "record"]


class Broken:
    """Raises ZeroDivisionError for the first calls, and calls the original for the others."""

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
    """How many failures were counted before the test."""
    return counters.restarted


async def test_a_record_that_is_broken_is_counted_and_read_again(
    hub: Hub, bus: Bus, record: Record, restarted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = await joined(hub)
    monkeypatch.setattr(record, "after", Broken(record.after, 2))
    record.last = 2
    await told(bus, record, 3, 3)
    await listener.until("3")
    assert listener.numbers == [1, 2, 3]
    assert counters.restarted == restarted + 2


async def test_a_record_that_is_away_is_no_failure_of_a_task(
    hub: Hub, bus: Bus, record: Record, restarted: int
) -> None:
    listener = await joined(hub)
    record.failures, record.last = 2, 2
    await told(bus, record, 3, 3)
    await listener.until("3")
    assert counters.restarted == restarted


async def test_a_repair_that_breaks_is_begun_again(
    hub: Hub, bus: Bus, record: Record, restarted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = await joined(hub)
    park, broken = HubRoom.park, [True]

    def break_once(room: HubRoom, run: Run) -> None:
        if run.first == 1 and broken:
            broken.pop()
            raise ZeroDivisionError
        park(room, run)

    monkeypatch.setattr(HubRoom, "park", break_once)
    record.last = 2
    await told(bus, record, 3, 3)
    await listener.until("3")
    assert listener.numbers == [1, 2, 3]
    assert counters.restarted == restarted + 1
    record.last = 4
    await told(bus, record, 5, 5)
    await listener.until("5")


async def test_an_opening_that_breaks_is_counted_and_the_next_one_succeeds(
    hub: Hub, record: Record, restarted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "open", Broken(record.open, 1))
    with pytest.raises(Refused):
        await joined(hub)
    assert counters.restarted == restarted + 1
    record.last = 1
    assert (await joined(hub)).numbers == [1]


async def test_a_comparison_that_breaks_is_counted_and_the_room_can_be_entered(
    hub: Hub, bus: Bus, record: Record, restarted: int
) -> None:
    await joined(hub)
    room = hub.rooms["r"]
    hub.on_replaced = Broken(None, 1)  # type: ignore[assignment]
    record.identity = NEW
    hub.receive("r", room, Envelope(1, 1, frames(1, 1), NEW.key))
    await until(lambda: counters.restarted == restarted + 1)
    assert room.check is None
    assert (await joined(hub)).heard[0] == "welcome 0 False"
