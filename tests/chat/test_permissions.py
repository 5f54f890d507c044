"""Permission to enter rooms, looked up for many people at once, and the creation of rooms."""

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
from tests.chat.process import enter, installation, people, return_connections, runtime
from tests.support.waiting import until

from channelbox.accounts.models import User
from channelbox.chat import permissions
from channelbox.chat.models import Room
from channelbox.chat.permissions import Person, look_up, make
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Code, Refused

GUEST = Person("g:1", "guest-1")


@pytest.mark.django_db
def test_many_people_and_rooms_are_looked_up_with_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    Room.objects.create(name="a")
    Room.objects.create(name="b")
    people = [Person(f"u:{number}", f"member-{number}", number) for number in range(1, 21)]
    requests = [(person, room) for person in people for room in "ab"]
    with django_assert_num_queries(1):
        entered = look_up(requests)
    assert {key: room.name for key, room in entered.items() if isinstance(room, Room)} == {
        key: key[1] for key in requests
    }


@pytest.mark.django_db
def test_each_person_gets_their_own_decision_for_a_room(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    Room.objects.create(name="closed", closed=True)
    users = [User.objects.create(username=name) for name in ("alice", "bob")]
    Room.objects.create(name="members", members_only=True).members.add(users[0])
    alice, bob = (Person(f"u:{user.pk}", user.username, user.pk) for user in users)
    with django_assert_num_queries(2):
        entered = look_up([(alice, "members"), (bob, "members"), (GUEST, "members"), (alice, "closed"), (GUEST, "new")])
    results = [room.frame["code"] if isinstance(room, Refused) else room.name for room in entered.values()]
    assert results == ["members", Code.NOT_ALLOWED, Code.NOT_ALLOWED, Code.NOT_ALLOWED]
    assert not Room.objects.filter(name="new").exists()


@pytest.mark.django_db
def test_creating_an_existing_room_changes_nothing() -> None:
    room = Room.objects.create(name="there", title="Title")
    make(["there", "new", "new"])
    assert {(room.pk, room.title)} < set(Room.objects.values_list("pk", "title"))
    assert Room.objects.count() == 2


@contextmanager
def rooms_locked() -> Iterator[None]:
    """Hold a lock on another connection: on SQLite for all writes, on PostgreSQL for writes to the table of rooms."""
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
async def test_joining_a_room_does_not_wait_for_creating_another(enter, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the lock is held, an existing room can be joined, and creating one is refused after its timeout."""
    monkeypatch.setattr(permissions, "CREATE_TIMEOUT_SECONDS", 0.5)
    await in_database(Room.objects.create)(name="there")
    with rooms_locked():
        creating = asyncio.create_task(enter("/ws/chat/new/"))
        await until(lambda: bool(Bus.current().shared.get(permissions.make)))
        assert (await enter("/ws/chat/there/")).welcome["type"] == "welcome"
        assert not creating.done()
        refused = await creating
    assert refused.welcome["code"] == "try_later"
    assert refused.welcome["retry_after"] > 0
    assert await refused.closed() == 1013
    assert (await enter("/ws/chat/new/")).welcome["type"] == "welcome"


@pytest.mark.django_db(transaction=True)
def test_the_form_answers_503_when_it_cannot_create_a_room(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permissions, "CREATE_TIMEOUT_SECONDS", 0.1)
    client.get("/chat/")
    with rooms_locked():
        answer = client.post("/chat/", {"name": "new"})
    assert answer.status_code == 503
    assert "right now" in answer.text
    assert client.post("/chat/", {"name": "new"}).status_code == 302
    assert Room.objects.get().name == "new"


@pytest.mark.django_db(transaction=True)
def test_creating_a_room_restores_the_lock_timeout() -> None:
    def lock_timeout() -> str:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout" if connection.vendor == "sqlite" else "SHOW lock_timeout")
            return str(cursor.fetchone()[0])

    usual = lock_timeout()
    make(["new"])
    assert lock_timeout() == usual


@pytest.mark.django_db(transaction=True)
async def test_a_room_joined_by_many_at_once_is_created_once(enter) -> None:
    people = await asyncio.gather(*(enter("/ws/chat/new/") for _ in range(10)))
    assert {person.welcome["type"] for person in people} == {"welcome"}
    assert await in_database(Room.objects.count)() == 1


def test_guests_cannot_create_rooms_where_only_users_can(settings: Settings) -> None:
    settings.CHANNELBOX_ROOM_CREATION = "users"
    assert [permissions.may_create(person) for person in (GUEST, Person("u:1", "alice", 1))] == [False, True]
