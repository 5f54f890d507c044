"""Coming back to a room: with the epoch, over numbers that are gone, and after a backup was restored."""

from typing import Any

import pytest
from channels.db import database_sync_to_async as in_database
from django.db import connection
from django.utils import timezone
from tests.chat.process import Person, Workers, connections_go_back, installation, people, runtime, workers

from channelbox.chat.epochs import Installation
from channelbox.chat.models import Event, Room
from channelbox.chat.runtime import ChatRuntime
from channelbox.realtime import reconciler
from channelbox.realtime.errors import Close

pytestmark = pytest.mark.django_db(transaction=True)

ROOM = "/ws/chat/lobby/"


@in_database
def make(last: int, missing: set[int] = frozenset(), floor: int = 1) -> str:  # type: ignore[assignment]
    """The lobby with so many events, but for those that are missing. Returns its epoch."""
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
    """The numbers of the events behind the welcome, and what tells of gaps, as (from, to, gone)."""
    heard: list[Any] = []
    newest = person.welcome["seq"]
    while not heard or (heard[-1][1] if isinstance(heard[-1], tuple) else heard[-1]) < newest:
        frame = await person.next("message", "gap")
        heard.append(frame["seq"] if "seq" in frame else (frame["from"], frame["to"], frame.get("gone", False)))
    return heard


async def test_the_welcome_names_versions_epoch_and_floor(runtime: ChatRuntime, people: list[Person]) -> None:
    epoch = await make(20, floor=8)
    welcome = (await enter(people)).welcome
    assert (welcome["protocol"], welcome["epoch"], welcome["floor"]) == (2, epoch, 8)
    assert welcome["version"]
    assert 0 < len(epoch) <= 64


async def test_the_same_epoch_goes_on_and_so_does_none(runtime: ChatRuntime, people: list[Person]) -> None:
    epoch = await make(20)
    for query in (f"?after=17&epoch={epoch}", "?after=17"):
        person = await enter(people, query)
        assert person.welcome["resumed"] is True
        assert await history(person) == [18, 19, 20]


async def test_another_epoch_means_to_forget(runtime: ChatRuntime, people: list[Person]) -> None:
    await make(20)
    person = await enter(people, "?after=17&epoch=0123-4567")
    assert person.welcome["resumed"] is False
    assert await history(person) == list(range(1, 21))


async def test_a_room_made_anew_is_not_spliced_onto_the_old_one_as_soon_as_it_has_as_many_events(
    runtime: ChatRuntime, people: list[Person]
) -> None:
    before = await make(10)
    await make(15)
    person = await enter(people, f"?after=10&epoch={before}")
    assert person.welcome["resumed"] is False
    assert await history(person) == list(range(1, 16))


@pytest.mark.parametrize("missing", [{20}, {7}, {1, 2, 3}, {5, 6, 19, 20}], ids=str)
async def test_one_missing_row_keeps_nobody_out(runtime: ChatRuntime, people: list[Person], missing: set[int]) -> None:
    await make(20, missing)
    heard = await history(await enter(people))
    numbers = [each for each in heard if isinstance(each, int)]
    assert numbers == [seq for seq in range(1, 21) if seq not in missing]
    gaps = {seq for each in heard if isinstance(each, tuple) and each[2] for seq in range(each[0], each[1] + 1)}
    assert gaps == missing


async def test_what_is_below_the_floor_is_told_as_gone(runtime: ChatRuntime, people: list[Person]) -> None:
    await make(20, floor=18)
    person = await enter(people, "?after=3")
    assert person.welcome["resumed"] is True
    assert await history(person) == [(4, 17, True), 18, 19, 20]


async def test_a_row_that_is_missing_while_people_are_here_is_stepped_over(
    runtime: ChatRuntime, workers: Workers, people: list[Person]
) -> None:
    await make(3)
    person = await enter(people)
    assert await history(person) == [1, 2, 3]
    await in_database(Room.objects.filter(name="lobby").update)(last_seq=5)  # two that were erased at once
    await person.say("hi")
    assert await history_until(person, 6) == [(4, 5, True), 6]


async def history_until(person: Person, seq: int) -> list[Any]:
    person.welcome["seq"] = seq
    return await history(person)


async def test_a_backup_restored_under_connected_clients_sends_them_to_begin_anew(
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
    """As `channelbox restored` leaves a record whose newest events are not there."""
    Event.objects.filter(seq__gt=last).delete()
    Room.objects.update(last_seq=last)
    Installation.draw_epoch()


async def test_a_database_that_lost_what_was_stored_last_sends_all_clients_to_begin_anew(
    runtime: ChatRuntime, workers: Workers, people: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby that lagged and was promoted, perhaps. New events get the numbers of those that were lost."""
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
    assert late.welcome["resumed"] is False, "its 9 and 10 are others"
    await runtime.reconciler.compare()
    await returned.say("once more", id="a")
    assert (await returned.next("message", "error"))["id"] == "a"
    assert (await in_database(Room.objects.get)(name="lobby")).full_epoch == returned.welcome["epoch"]


def lose(last: int) -> None:
    """Roll the record back, as the loss of the newest transactions does."""
    Event.objects.filter(seq__gt=last).delete()
    Room.objects.update(last_seq=last)


async def test_a_look_at_the_record_ends_no_connection_where_nothing_was_restored(
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
    Installation.objects.update(database_oid=1)  # as pg_restore leaves it in a database that was made anew
    moved = Installation.recognise_database()
    assert moved is (connection.vendor == "postgresql")
    assert (Installation.objects.get().epoch != first) is moved
