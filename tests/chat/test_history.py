"""Reading events of many rooms at once: with the same results as one by one, and without delaying other joins."""

import asyncio
import threading

import pytest
from channels.db import database_sync_to_async as in_database
from django.db import OperationalError
from pytest_django import Settings
from tests.chat.many_messages import insert_messages
from tests.chat.process import installation, runtime
from tests.chat.test_costs import enter, numbers, rooms_with_messages, store_unpublished
from tests.support.waiting import until

from channelbox.chat import history, permissions, serializers
from channelbox.chat.event_kinds import Kind
from channelbox.chat.history import History
from channelbox.chat.models import Event, Room
from channelbox.chat.runtime import ChatRuntime
from channelbox.realtime.history_source import NO_ROOM, Identity
from channelbox.realtime.hub_room import Run

__all__ = ["installation", "runtime"]

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 60  # rooms; more than the threads of the event loop's pool
ALICE = permissions.Person("g:alice", "alice")


def identity(room: Room) -> Identity:
    return Identity(room.pk, room.full_epoch)


@pytest.fixture
def rooms() -> list[Room]:
    """Create one room of each kind: empty, short, long, with a floor, a hole or a deletion, and without its events."""
    made = [Room.objects.create(name=name) for name in ("empty", "short", "long", "floor", "hole", "deletion", "gone")]
    for room, count in zip(made, (0, 3, 300, 300, 300, 5, 7), strict=True):
        if count:
            insert_messages(room, count)
    Room.objects.filter(name="floor").update(floor=290)
    Event.objects.filter(room__name="hole", seq__in=[150, 291, 292]).delete()
    Event.objects.filter(room__name="gone").delete()
    Event.objects.filter(room__name="deletion", seq=5).update(kind=Kind.DELETION, text="", data={"removes": 2})
    Event.objects.filter(room__name="deletion", seq=2).update(text="", data={"removed": {"by": "alice", "seq": 5}})
    return list(Room.objects.all())


def test_opening_rooms_together_gives_the_same_result_as_separately(
    rooms: list[Room], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_EVENTS_AT_ONCE", 10_000)  # so that no room is opened with fewer
    names = [*(room.name for room in rooms), "none"]
    together = history._open_rooms(names)
    assert together == {name: opened for name in names for _, opened in history._open_rooms([name]).items()}
    runs = {name: (opened.floor, opened.run.first, opened.run.last) for name, opened in together.items()}
    assert runs == {
        "empty": (1, 1, 0),
        "short": (1, 1, 3),
        "long": (1, 101, 300),
        "floor": (290, 290, 300),
        "hole": (1, 293, 300),
        "deletion": (1, 1, 5),
        "gone": (1, 8, 7),
        "none": (1, 1, 0),
    }
    assert together["none"].identity == NO_ROOM.identity
    for room in rooms:
        assert together[room.name].identity == identity(room)
        seen = Event.objects.filter(room=room, seq__gte=together[room.name].run.first).order_by("seq")
        assert together[room.name].run.frames == b"".join(map(serializers.frame, seen))


def test_reading_pages_together_gives_the_same_result_as_separately(rooms: list[Room]) -> None:
    asked = {
        ("empty", 0): (1, 0),
        ("short", 1): (2, 3),
        ("short", 3): (4, 3),
        ("long", 0): (1, 100),
        ("long", 250): (251, 300),
        ("floor", 5): (6, 289),  # gone
        ("floor", 289): (290, 300),
        ("hole", 140): (141, 149),
        ("hole", 149): (150, 150),
        ("hole", 290): (291, 292),
        ("deletion", 4): (5, 5),
        ("gone", 2): (3, 7),
    }
    named = {room.name: room for room in rooms}
    pages = [history.Page(name, identity(named[name]), seq, 100) for name, seq in asked]
    together = history._read_pages(pages)
    assert [together[page][:2] for page in pages] == list(asked.values())
    assert together == {page: run for page in pages for _, run in history._read_pages([page]).items()}
    assert [page.name for page in pages if together[page].replaced] == ["deletion"]
    assert [(page.name, page.seq) for page in pages if together[page].gone] == [
        ("floor", 5),
        ("hole", 149),
        ("hole", 290),
        ("gone", 2),
    ]


def test_rooms_opened_together_have_at_least_the_initial_history(
    rooms: list[Room], monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(history, "MAX_EVENTS_AT_ONCE", 70)
    settings.CHANNELBOX_HISTORY = 5
    assert history._open_rooms([room.name for room in rooms])["long"].run.first == 291
    settings.CHANNELBOX_HISTORY = 30
    assert history._open_rooms([room.name for room in rooms])["long"].run.first == 271


async def test_a_room_that_cannot_be_read_does_not_fail_the_others(
    rooms_with_one_broken: list[Room],
) -> None:
    source = History()
    found = await asyncio.gather(
        *(source.open(room.name) for room in rooms_with_one_broken),
        *(source.after(room.name, identity(room), 0, 200) for room in rooms_with_one_broken),
        return_exceptions=True,
    )
    names = [room.name for room in rooms_with_one_broken] * 2
    assert {name for name, answer in zip(names, found, strict=True) if isinstance(answer, Exception)} == {"broken"}
    assert sum(isinstance(answer, Exception) for answer in found) == 2


@pytest.fixture
def rooms_with_one_broken(rooms: list[Room]) -> list[Room]:
    broken = Room.objects.create(name="broken")
    insert_messages(broken, 1)
    Event.objects.filter(room=broken).update(data=["no fields"])
    return list(Room.objects.all())


async def test_a_database_outage_costs_one_query_for_all_rooms(
    rooms: list[Room], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fail(names: object) -> None:
        asked.append(names)
        raise OperationalError("away")

    monkeypatch.setattr(history, "_rooms", fail)
    source = History()
    found = await asyncio.gather(*(source.open(room.name) for room in rooms), return_exceptions=True)
    assert [type(answer) for answer in found] == [OperationalError] * len(rooms)
    assert len(asked) == 1


async def test_a_page_of_a_recreated_room_is_not_read(rooms: list[Room]) -> None:
    source, (first, second, *_) = History(), rooms
    another = Identity(first.pk, "another epoch")
    recreated, other = await asyncio.gather(
        source.after(first.name, another, 0, 10),
        source.after(second.name, identity(second), 0, 10),
        return_exceptions=True,
    )
    assert isinstance(recreated, LookupError)
    assert isinstance(other, Run)


class Gate:
    """Blocks the threads that read events, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.waiting = 0
        self.open = threading.Event()
        original = getattr(serializers, name)

        def wait(*args: object) -> object:
            self.waiting += 1
            self.open.wait(30)
            return original(*args)

        monkeypatch.setattr(serializers, name, wait)


async def test_opening_many_rooms_does_not_delay_joining_an_open_one(
    runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, *others = await rooms_with_messages(MANY + 1)
    await enter(runtime, opened)
    gate = Gate(monkeypatch, "newest")
    crowd = [asyncio.create_task(enter(runtime, room)) for room in others]
    try:
        await until(lambda: gate.waiting > 0)
        await asyncio.sleep(0.1)  # until all the others have begun
        async with asyncio.timeout(10):
            found = await permissions.enter(ALICE, opened.name, None)
            assert numbers(await enter(runtime, found)) == [1, 2, 3]
    finally:
        gate.open.set()
    assert all(numbers(listener) == [1, 2, 3] for listener in await asyncio.gather(*crowd))


async def test_reading_missed_events_does_not_delay_permission_checks(
    runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = await rooms_with_messages(MANY)
    listeners = [await enter(runtime, room) for room in rooms]
    await in_database(store_unpublished)()
    gate = Gate(monkeypatch, "run")
    await runtime.reconciler.compare()
    try:
        await until(lambda: gate.waiting > 0)
        await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            await permissions.enter(ALICE, rooms[0].name, None)
    finally:
        gate.open.set()
    await until(lambda: all(numbers(listener) == [1, 2, 3, 4] for listener in listeners))
