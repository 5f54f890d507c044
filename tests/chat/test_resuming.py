"""Returning to a room: with its epoch, across missing numbers, and after a backup was restored."""

from typing import Any

import pytest
from channels.db import database_sync_to_async as in_database
from django.db import connection
from django.utils import timezone
from tests.chat.process import Person, Workers, installation, people, return_connections, runtime, workers

from channelbox.chat.epochs import Installation
from channelbox.chat.models import Event, Room
from channelbox.chat.runtime import ChatRuntime
from channelbox.realtime import reconciler
from channelbox.realtime.errors import Close

pytestmark = pytest.mark.django_db(transaction=True)

ROOM = "/ws/chat/lobby/"


@in_database
def make(last: int, missing: set[int] = frozenset(), floor: int = 1) -> str:  # type: ignore[assignment]
    """Create the lobby with events up to `last`, except those in `missing`. Returns its epoch."""
    Room.objects.filter(name="lobby").delete()
    room = Room.objects.create(name="lobby", last_seq=last, floor=floor)
    Event.objects.bulk_create(
        Event(room=room, seq=seq, sender="g:x", client_id=str(seq), name="x", text=str(seq), at=timezone.now())
        for seq in range(floor, last + 1)
        if seq not in missing
    )
    return room.full_epoch


async def enter(people: list[Person], query: str = "") -> Person:
    person = Person(ROOM + query)
    people.append(person)
    assert (await person.connect())["type"] == "welcome"
    return person


async def history(person: Person) -> list[Any]:
    """Return the numbers of the events that follow the welcome, and gaps as (from, to, gone)."""
    received: list[Any] = []
    newest = person.welcome["seq"]
    while not received or (received[-1][1] if isinstance(received[-1], tuple) else received[-1]) < newest:
        frame = await person.next("message", "gap")
        received.append(frame["seq"] if "seq" in frame else (frame["from"], frame["to"], frame.get("gone", False)))
    return received


async def test_the_welcome_contains_versions_epoch_and_floor(runtime: ChatRuntime, people: list[Person]) -> None:
    epoch = await make(20, floor=8)
    welcome = (await enter(people)).welcome
    assert (welcome["protocol"], welcome["epoch"], welcome["floor"]) == (2, epoch, 8)
    assert welcome["version"]
    assert 0 < len(epoch) <= 64


async def test_a_client_resumes_with_the_same_epoch_or_none(runtime: ChatRuntime, people: list[Person]) -> None:
    epoch = await make(20)
    for query in (f"?after=17&epoch={epoch}", "?after=17"):
        person = await enter(people, query)
        assert person.welcome["resumed"] is True
        assert await history(person) == [18, 19, 20]


async def test_a_client_with_another_epoch_does_not_resume(runtime: ChatRuntime, people: list[Person]) -> None:
    await make(20)
    person = await enter(people, "?after=17&epoch=0123-4567")
    assert person.welcome["resumed"] is False
    assert await history(person) == list(range(1, 21))


async def test_a_client_does_not_resume_in_a_recreated_longer_room(runtime: ChatRuntime, people: list[Person]) -> None:
    before = await make(10)
    await make(15)
    person = await enter(people, f"?after=10&epoch={before}")
    assert person.welcome["resumed"] is False
    assert await history(person) == list(range(1, 16))


@pytest.mark.parametrize("missing", [{20}, {7}, {1, 2, 3}, {5, 6, 19, 20}], ids=str)
async def test_missing_rows_are_sent_as_gaps(runtime: ChatRuntime, people: list[Person], missing: set[int]) -> None:
    await make(20, missing)
    received = await history(await enter(people))
    numbers = [each for each in received if isinstance(each, int)]
    assert numbers == [seq for seq in range(1, 21) if seq not in missing]
    gaps = {seq for each in received if isinstance(each, tuple) and each[2] for seq in range(each[0], each[1] + 1)}
    assert gaps == missing


async def test_numbers_below_the_floor_are_sent_as_a_gap(runtime: ChatRuntime, people: list[Person]) -> None:
    await make(20, floor=18)
    person = await enter(people, "?after=3")
    assert person.welcome["resumed"] is True
    assert await history(person) == [(4, 17, True), 18, 19, 20]


async def test_missing_numbers_are_skipped_for_connected_clients(
    runtime: ChatRuntime, workers: Workers, people: list[Person]
) -> None:
    await make(3)
    person = await enter(people)
    assert await history(person) == [1, 2, 3]
    await in_database(Room.objects.filter(name="lobby").update)(last_seq=5)  # as if two were stored and erased
    await person.say("hi")
    assert await history_until(person, 6) == [(4, 5, True), 6]


async def history_until(person: Person, seq: int) -> list[Any]:
    person.welcome["seq"] = seq
    return await history(person)


async def test_restoring_a_backup_restarts_connected_clients(
    runtime: ChatRuntime, workers: Workers, people: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "INTERVAL_SECONDS", 0.1)
    epoch = await make(10)
    person = await enter(people)
    assert await history(person) == list(range(1, 11))
    for number in range(11, 16):
        await person.say("said after the backup", id=f"new-{number}")
        assert (await person.next("message"))["seq"] == number
    runtime.reconciler.now()
    await in_database(restore)(10)
    assert await person.closed() == Close.RESTART
    returned = await enter(people, f"?after=15&epoch={epoch}")
    assert returned.welcome["resumed"] is False
    assert await history(returned) == list(range(1, 11))
    await returned.say("hi")
    assert (await returned.next("message"))["seq"] == 11


def restore(last: int) -> None:
    """Leave the database as `channelbox restored` does, without its newest events."""
    Event.objects.filter(seq__gt=last).delete()
    Room.objects.update(last_seq=last)
    Installation.draw_epoch()


async def test_losing_the_newest_events_restarts_all_clients(
    runtime: ChatRuntime, workers: Workers, people: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example, a lagging standby was promoted. New events get the numbers of those that were lost."""
    epoch = await make(10)
    person = await enter(people)
    assert await history(person) == list(range(1, 11))
    await in_database(lose)(8)
    await runtime.reconciler.compare()
    assert await person.closed() == Close.RESTART
    returned = await enter(people, f"?after=10&epoch={epoch}")
    assert returned.welcome["epoch"] != epoch
    assert returned.welcome["resumed"] is False
    assert await history(returned) == list(range(1, 9))
    for number in range(9, 13):
        await returned.say("hi")
        assert (await returned.next("message"))["seq"] == number
    late = await enter(people, f"?after=10&epoch={epoch}")
    assert late.welcome["resumed"] is False, "its events 9 and 10 were lost"
    await runtime.reconciler.compare()
    await returned.say("once more", id="a")
    assert (await returned.next("message", "error"))["id"] == "a"
    assert (await in_database(Room.objects.get)(name="lobby")).full_epoch == returned.welcome["epoch"]


def lose(last: int) -> None:
    """Roll the database back, as the loss of the newest transactions does."""
    Event.objects.filter(seq__gt=last).delete()
    Room.objects.update(last_seq=last)


async def test_comparing_with_an_unchanged_database_closes_no_connection(
    runtime: ChatRuntime, workers: Workers, people: list[Person]
) -> None:
    await make(3)
    person = await enter(people)
    assert await history(person) == [1, 2, 3]
    await runtime.reconciler.compare()
    await person.say("hi", id="a")
    assert (await person.next("message", "error"))["id"] == "a"


def test_another_postgresql_database_is_recognised_by_its_oid() -> None:
    Installation.draw_epoch()
    first = Installation.objects.get().epoch
    assert not Installation.recognise_database(), "seen for the first time"
    assert not Installation.recognise_database()
    assert Installation.objects.get().epoch == first
    Installation.objects.update(database_oid=1)  # as pg_restore leaves it in a new database
    moved = Installation.recognise_database()
    assert moved is (connection.vendor == "postgresql")
    assert (Installation.objects.get().epoch != first) is moved
