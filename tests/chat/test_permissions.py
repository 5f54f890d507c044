"""Who may enter which room, for many at once, and how rooms are made."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from channels.db import database_sync_to_async as in_database
from django.db import connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings
from tests.chat.process import connections_go_back, enter, installation, people, runtime
from tests.support.waiting import until

from channelbox.accounts.models import User
from channelbox.chat import permissions
from channelbox.chat.models import Room
from channelbox.chat.permissions import Person, look_up, make
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Code, Refused

GUEST = Person("g:1", "guest-1")


@pytest.mark.django_db
def test_a_crowd_for_rooms_that_are_there_costs_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    Room.objects.create(name="a")
    Room.objects.create(name="b")
    people = [Person(f"u:{number}", f"member-{number}", number) for number in range(1, 21)]
    asked = [(person, room) for person in people for room in "ab"]
    with django_assert_num_queries(1):
        entered = look_up(asked)
    assert {key: room.name for key, room in entered.items() if isinstance(room, Room)} == {key: key[1] for key in asked}


@pytest.mark.django_db
def test_each_is_judged_alone(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    Room.objects.create(name="closed", closed=True)
    users = [User.objects.create(username=name) for name in ("alice", "bob")]
    Room.objects.create(name="members", members_only=True).members.add(users[0])
    alice, bob = (Person(f"u:{user.pk}", user.username, user.pk) for user in users)
    with django_assert_num_queries(2):
        entered = look_up([(alice, "members"), (bob, "members"), (GUEST, "members"), (alice, "closed"), (GUEST, "new")])
    words = [room.frame["code"] if isinstance(room, Refused) else room.name for room in entered.values()]
    assert words == ["members", Code.NOT_ALLOWED, Code.NOT_ALLOWED, Code.NOT_ALLOWED]
    assert not Room.objects.filter(name="new").exists()


@pytest.mark.django_db
def test_making_a_room_that_is_there_changes_nothing() -> None:
    room = Room.objects.create(name="there", title="Title")
    make(["there", "new", "new"])
    assert {(room.pk, room.title)} < set(Room.objects.values_list("pk", "title"))
    assert Room.objects.count() == 2


@contextmanager
def rooms_locked() -> Iterator[None]:
    """Somebody else writes: on SQLite to anything, on PostgreSQL a room named `new`."""
    other: Any
    if connection.vendor == "sqlite":
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
    else:
        parameters = connection.get_connection_params()
        other = psycopg.connect(host=parameters["host"], user=parameters["user"], dbname=parameters["dbname"])
        other.execute("LOCK TABLE chat_room IN SHARE MODE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


@pytest.mark.django_db(transaction=True)
async def test_nobody_who_joins_a_room_waits_for_one_that_is_made(enter, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database is written to, rooms that are there are entered; one that is not is refused before long."""
    monkeypatch.setattr(permissions, "CREATE_TIMEOUT_SECONDS", 0.5)
    await in_database(Room.objects.create)(name="there")
    with rooms_locked():
        making = asyncio.create_task(enter("/ws/chat/new/"))
        await until(lambda: bool(Bus.current().shared.get(permissions.make)))
        assert (await enter("/ws/chat/there/")).welcome["type"] == "welcome"
        assert not making.done()
        refused = await making
    assert refused.welcome["code"] == "try_later"
    assert refused.welcome["retry_after"] > 0
    assert await refused.closed() == 1013
    assert (await enter("/ws/chat/new/")).welcome["type"] == "welcome"


@pytest.mark.django_db(transaction=True)
def test_a_form_that_cannot_make_a_room_now_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permissions, "CREATE_TIMEOUT_SECONDS", 0.1)
    client.get("/chat/")
    with rooms_locked():
        answer = client.post("/chat/", {"name": "new"})
    assert answer.status_code == 503
    assert "right now" in answer.text
    assert client.post("/chat/", {"name": "new"}).status_code == 302
    assert Room.objects.get().name == "new"


@pytest.mark.django_db(transaction=True)
def test_what_waits_for_the_database_is_patient_again_after_a_room_was_made() -> None:
    def patience() -> str:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout" if connection.vendor == "sqlite" else "SHOW lock_timeout")
            return str(cursor.fetchone()[0])

    usual = patience()
    make(["new"])
    assert patience() == usual


@pytest.mark.django_db(transaction=True)
async def test_a_room_that_many_come_to_at_once_is_made_once(enter) -> None:
    people = await asyncio.gather(*(enter("/ws/chat/new/") for _ in range(10)))
    assert {person.welcome["type"] for person in people} == {"welcome"}
    assert await in_database(Room.objects.count)() == 1


def test_who_may_not_make_rooms(settings: Settings) -> None:
    settings.CHANNELBOX_ROOM_CREATION = "users"
    assert [permissions.may_create(person) for person in (GUEST, Person("u:1", "alice", 1))] == [False, True]
