"""What changes who may stay connected is published once for each transaction, over a real Redis."""

from collections.abc import Callable, Iterator

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import Client
from tests.support.servers import RedisServer

from channelbox.accounts.models import User
from channelbox.chat import cleanup
from channelbox.chat.models import Room
from channelbox.realtime import redis_keys, sync_redis

pytestmark = pytest.mark.django_db(transaction=True)

Heard = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def woken(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """How often a worker was to be woken to remove rows: that goes through Redis as well."""
    woken: list[None] = []
    monkeypatch.setattr(cleanup, "_wake", lambda: woken.append(None))
    return woken


@pytest.fixture
def heard(redis_server: RedisServer) -> Iterator[Heard]:
    """What was published since it was last asked for."""

    def heard() -> list[str]:
        client.publish(redis_keys.revoked(), "end")
        messages = (message["data"].decode() for message in channel.listen() if message["type"] == "message")
        return list(iter(lambda: next(messages), "end"))

    with redis_server.client() as client, client.pubsub() as channel:
        channel.subscribe(redis_keys.revoked())
        assert channel.get_message(timeout=10)  # it is subscribed
        yield heard


@pytest.fixture
def hanging(
    new_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Heard]:
    """A Redis that answers nothing. Returns what was told of it, a line for each time that it was waited for."""
    server = new_redis()
    monkeypatch.setattr(sync_redis, "TIMEOUT_SECONDS", 0.1)
    client = sync_redis._client({"address": server.url})
    monkeypatch.setattr(sync_redis, "clients", lambda: [client])
    server.freeze()
    yield lambda: [record.message for record in caplog.records if "instead of immediately" in record.message]
    server.thaw()


@pytest.fixture
def rooms() -> list[Room]:
    return [Room.objects.create(name=f"room-{number}") for number in range(8)]


@pytest.fixture
def users() -> list[User]:
    return [User.objects.create_user(f"user-{number}") for number in range(8)]


def words(kind: str, some: list[Room] | list[User]) -> list[str]:
    return [f"{kind} {each.pk}" for each in some]


def test_every_room_and_user_that_a_transaction_changes_is_told(
    heard: Heard, rooms: list[Room], users: list[User]
) -> None:
    with transaction.atomic():
        Room.objects.filter(pk__in=[room.pk for room in rooms[1:]]).delete()
        rooms[0].save()
        rooms[0].save()
        for user in users:
            user.save()
        assert heard() == []
    assert sorted(heard()) == sorted(words("room", rooms) + words("user", users))


def test_a_change_without_a_transaction_is_told(heard: Heard, users: list[User]) -> None:
    users[0].save()
    assert heard() == words("user", users[:1])
    users[0].save()
    assert heard() == words("user", users[:1])


def test_what_is_rolled_back_takes_nothing_else_along(heard: Heard, users: list[User]) -> None:
    def changed_and_rolled_back(user: User) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            user.save()
            raise ZeroDivisionError

    changed_and_rolled_back(users[0])
    assert heard() == []
    with transaction.atomic():
        changed_and_rolled_back(users[1])
        users[2].save()
        changed_and_rolled_back(users[3])
        with transaction.atomic():
            users[4].save()
    assert set(words("user", [users[2], users[4]])) <= set(heard()) <= set(words("user", users[1:5]))


def test_deleting_many_rooms_waits_once_for_a_redis_that_hangs(hanging: Heard, rooms: list[Room]) -> None:
    Room.objects.all().delete()
    (line,) = hanging()
    assert f"room {rooms[0].pk}" in line
    assert not Room.objects.exists()


def test_deleting_many_users_waits_once_for_a_redis_that_hangs(
    hanging: Heard, woken: list[None], users: list[User], client: Client
) -> None:
    client.force_login(User.objects.create(username="admin", is_staff=True, is_superuser=True))
    form = {"action": "delete_selected", ACTION_CHECKBOX_NAME: [user.pk for user in users], "post": "yes"}
    assert client.post("/admin/accounts/user/", form).status_code == 302
    assert len(hanging()) == 1
    assert len(woken) == 1
    assert set(User.deleted()) == set(users)


def test_ending_many_sessions_waits_once_for_a_redis_that_hangs(hanging: Heard, users: list[User]) -> None:
    for user in users:
        Client().force_login(user)
    Session.objects.all().delete()
    assert len(hanging()) == 1
