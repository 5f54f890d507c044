"""Reading the record for many rooms at once: each as if it were read alone, and nobody waits for all of them."""

import asyncio
import threading

import pytest
from channels.db import database_sync_to_async as in_database
from django.db import OperationalError
from pytest_django import Settings
from tests.chat.many import say_much
from tests.chat.process import installation, runtime
from tests.chat.test_costs import enter, numbers, rooms_with_messages, say_more
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
    """One of each kind: empty, short, long, with a floor, with a hole, with a deletion, and all of it removed."""
    made = [Room.objects.create(name=name) for name in ("empty", "short", "long", "floor", "hole", "deletion", "gone")]
    for room, count in zip(made, (0, 3, 300, 300, 300, 5, 7), strict=True):
        if count:
            say_much(room, count)
    Room.objects.filter(name="floor").update(floor=290)
    Event.objects.filter(room__name="hole", seq__in=[150, 291, 292]).delete()
    Event.objects.filter(room__name="gone").delete()
    Event.objects.filter(room__name="deletion", seq=5).update(kind=Kind.DELETION, text="", data={"removes": 2})
    Event.objects.filter(room__name="deletion", seq=2).update(text="", data={"removed": {"by": "alice", "seq": 5}})
    return list(Room.objects.all())


def test_rooms_that_are_opened_together_are_as_each_alone(rooms: list[Room], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_EVENTS_AT_ONCE", 10_000)  # so that none is opened with less
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


def test_pages_that_are_read_together_are_as_each_alone(rooms: list[Room]) -> None:
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


def test_rooms_of_a_crowd_are_opened_with_less_but_with_what_newcomers_get(
    rooms: list[Room], monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(history, "MAX_EVENTS_AT_ONCE", 70)
    settings.CHANNELBOX_HISTORY = 5
    assert history._open_rooms([room.name for room in rooms])["long"].run.first == 291
    settings.CHANNELBOX_HISTORY = 30
    assert history._open_rooms([room.name for room in rooms])["long"].run.first == 271


async def test_a_room_that_cannot_be_read_is_told_to_nobody_else(
    rooms_with_one_broken: list[Room],
) -> None:
    record = History()
    found = await asyncio.gather(
        *(record.open(room.name) for room in rooms_with_one_broken),
        *(record.after(room.name, identity(room), 0, 200) for room in rooms_with_one_broken),
        return_exceptions=True,
    )
    names = [room.name for room in rooms_with_one_broken] * 2
    assert {name for name, answer in zip(names, found, strict=True) if isinstance(answer, Exception)} == {"broken"}
    assert sum(isinstance(answer, Exception) for answer in found) == 2


@pytest.fixture
def rooms_with_one_broken(rooms: list[Room]) -> list[Room]:
    broken = Room.objects.create(name="broken")
    say_much(broken, 1)
    Event.objects.filter(room=broken).update(data=["no fields"])
    return list(Room.objects.all())


async def test_a_database_that_is_away_is_asked_once_for_all(
    rooms: list[Room], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def away(names: object) -> None:
        asked.append(names)
        raise OperationalError("away")

    monkeypatch.setattr(history, "_rooms", away)
    record = History()
    found = await asyncio.gather(*(record.open(room.name) for room in rooms), return_exceptions=True)
    assert [type(answer) for answer in found] == [OperationalError] * len(rooms)
    assert len(asked) == 1


async def test_a_page_of_a_room_that_was_made_anew_is_not_read(rooms: list[Room]) -> None:
    record, (first, second, *_) = History(), rooms
    another = Identity(first.pk, "another epoch")
    made_anew, other = await asyncio.gather(
        record.after(first.name, another, 0, 10),
        record.after(second.name, identity(second), 0, 10),
        return_exceptions=True,
    )
    assert isinstance(made_anew, LookupError)
    assert isinstance(other, Run)


class Gate:
    """Holds up the threads that read events, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.waiting = 0
        self.open = threading.Event()
        original = getattr(serializers, name)

        def wait(*args: object) -> object:
            self.waiting += 1
            self.open.wait(30)
            return original(*args)

        monkeypatch.setattr(serializers, name, wait)


async def test_a_crowd_that_opens_rooms_does_not_hold_up_who_enters_an_open_one(
    runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, *others = await rooms_with_messages(MANY + 1)
    await enter(runtime, opened)
    gate = Gate(monkeypatch, "newest")
    crowd = [asyncio.create_task(enter(runtime, room)) for room in others]
    try:
        await until(lambda: gate.waiting > 0)
        await asyncio.sleep(0.1)  # and all the others are on their way
        async with asyncio.timeout(10):
            found = await permissions.enter(ALICE, opened.name, None)
            assert numbers(await enter(runtime, found)) == [1, 2, 3]
    finally:
        gate.open.set()
    assert all(numbers(listener) == [1, 2, 3] for listener in await asyncio.gather(*crowd))


async def test_rooms_that_missed_something_do_not_hold_up_who_enters_another(
    runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = await rooms_with_messages(MANY)
    listeners = [await enter(runtime, room) for room in rooms]
    await in_database(say_more)()
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
