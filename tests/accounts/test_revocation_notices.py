"""Changes of access are published once for each transaction, over a real Redis."""

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

Published = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def wake_ups(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Record each attempt to wake a worker that removes rows, which would go through Redis as well."""
    wake_ups: list[None] = []
    monkeypatch.setattr(cleanup, "_wake", lambda: wake_ups.append(None))
    return wake_ups


@pytest.fixture
def published(redis_server: RedisServer) -> Iterator[Published]:
    """Return a function that returns the notices published since its last call."""

    def published() -> list[str]:
        client.publish(redis_keys.revoked(), "end")
        messages = (message["data"].decode() for message in channel.listen() if message["type"] == "message")
        return list(iter(lambda: next(messages), "end"))

    with redis_server.client() as client, client.pubsub() as channel:
        channel.subscribe(redis_keys.revoked())
        assert channel.get_message(timeout=10)  # the confirmation
        yield published


@pytest.fixture
def hanging_redis(
    new_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Published]:
    """Use a Redis that does not answer. Returns a function that returns the log lines, one for each timeout."""
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


def notices(kind: str, changed: list[Room] | list[User]) -> list[str]:
    return [f"{kind} {each.pk}" for each in changed]


def test_a_commit_publishes_each_changed_room_and_user_once(
    published: Published, rooms: list[Room], users: list[User]
) -> None:
    with transaction.atomic():
        Room.objects.filter(pk__in=[room.pk for room in rooms[1:]]).delete()
        rooms[0].save()
        rooms[0].save()
        for user in users:
            user.save()
        assert published() == []
    assert sorted(published()) == sorted(notices("room", rooms) + notices("user", users))


def test_each_change_outside_a_transaction_is_published(published: Published, users: list[User]) -> None:
    users[0].save()
    assert published() == notices("user", users[:1])
    users[0].save()
    assert published() == notices("user", users[:1])


def test_a_rollback_does_not_discard_the_notices_of_other_changes(published: Published, users: list[User]) -> None:
    def change_and_roll_back(user: User) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            user.save()
            raise ZeroDivisionError

    change_and_roll_back(users[0])
    assert published() == []
    with transaction.atomic():
        change_and_roll_back(users[1])
        users[2].save()
        change_and_roll_back(users[3])
        with transaction.atomic():
            users[4].save()
    assert set(notices("user", [users[2], users[4]])) <= set(published()) <= set(notices("user", users[1:5]))


def test_deleting_many_rooms_waits_once_for_a_hanging_redis(hanging_redis: Published, rooms: list[Room]) -> None:
    Room.objects.all().delete()
    (line,) = hanging_redis()
    assert f"room {rooms[0].pk}" in line
    assert not Room.objects.exists()


def test_deleting_many_users_waits_once_for_a_hanging_redis(
    hanging_redis: Published, wake_ups: list[None], users: list[User], client: Client
) -> None:
    client.force_login(User.objects.create(username="admin", is_staff=True, is_superuser=True))
    form = {"action": "delete_selected", ACTION_CHECKBOX_NAME: [user.pk for user in users], "post": "yes"}
    assert client.post("/admin/accounts/user/", form).status_code == 302
    assert len(hanging_redis()) == 1
    assert len(wake_ups) == 1
    assert set(User.deleted()) == set(users)


def test_ending_many_sessions_waits_once_for_a_hanging_redis(hanging_redis: Published, users: list[User]) -> None:
    for user in users:
        Client().force_login(user)
    Session.objects.all().delete()
    assert len(hanging_redis()) == 1
