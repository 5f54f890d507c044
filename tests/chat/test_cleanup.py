"""Deleting rooms and users: they disappear at once, and their rows are removed afterwards in small batches."""

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from channels.db import database_sync_to_async as in_database
from channels.layers import get_channel_layer
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from tests.chat.many_messages import insert_messages
from tests.chat.process import enter, installation, people, return_connections, runtime
from tests.support.servers import RedisServer
from tests.support.waiting import until

from channelbox.accounts.models import User
from channelbox.chat import cleanup
from channelbox.chat.cleanup import Cleanup, remove_batch
from channelbox.chat.models import DeletedName, Event, Room
from channelbox.chat.store import store
from channelbox.lifespan import Process
from channelbox.realtime import background_tasks, redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import IncomingEvent, RoomRef
from channelbox.work.queue import WorkLayer

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 500


@pytest.fixture
def room() -> Room:
    room = Room.objects.create(name="lobby")
    room.members.set(User.objects.create(username=f"member-{number}") for number in range(5))
    insert_messages(room, MANY)
    return room


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    yield Bus.current()
    await Bus.current().stop()


@in_database
def rows() -> tuple[int, int, int]:
    return Room.everything.count(), Event.objects.count(), Room.members.through.objects.count()


def delete(room: Room) -> None:
    room.delete()


def delete_all(room: Room) -> None:
    Room.objects.all().delete()


@contextmanager
def storing_messages(name: str, *people: IncomingEvent) -> Iterator[list[Exception]]:
    """Store messages of each of these people in a thread of its own until they are refused. Yields the exceptions."""
    room = RoomRef(Room.objects.get(name=name).pk, name)
    begun, failed = threading.Barrier(len(people) + 1), []

    def store_messages(person: IncomingEvent) -> None:
        try:
            for number in range(10_000):
                events = [dataclasses.replace(person, id=f"{number}-{n}") for n in range(5)]
                outcome = store({room: events}).outcomes.get(room)
                if outcome is not None and outcome.refused:
                    break
                if number == 3:
                    begun.wait(20)
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=store_messages, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    begun.wait(20)
    yield failed
    for thread in threads:
        thread.join(20)


@pytest.mark.parametrize("how", [delete, delete_all])
def test_deleting_a_room_frees_its_name_without_touching_events(room: Room, how: Callable[[Room], None]) -> None:
    with CaptureQueriesContext(connection) as queries:
        how(room)
    assert not any("chat_event" in query["sql"] for query in queries)
    assert not Room.objects.exists()
    assert Event.objects.count() == MANY
    recreated = Room.objects.create(name="lobby")
    assert Room.objects.get() == recreated
    assert recreated.last_seq == 0


def test_deleting_a_room_twice_changes_nothing(room: Room) -> None:
    assert room.delete()[0] == 1
    marked = Room.everything.get()
    assert room.delete()[0] == 0
    assert Room.everything.get().deleted_at == marked.deleted_at


async def test_rows_of_a_deleted_room_are_removed_in_small_batches(
    room: Room, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch is one statement with a limited number of rows, and other rooms are left alone."""
    other = await in_database(Room.objects.create)(name="other")
    await in_database(insert_messages)(other, 10)
    await in_database(room.delete)()
    batches: list[int] = []

    def remove_and_count(limit: int) -> int | None:
        assert limit <= 100
        with CaptureQueriesContext(connection) as queries:
            removed = remove_batch(limit)
        changing = [query["sql"] for query in queries if query["sql"].startswith(("DELETE", "UPDATE"))]
        assert len([sql for sql in changing if "chat_event" in sql]) <= 1
        if removed is not None:
            batches.append(removed)
        return removed

    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(cleanup, "MAX_BATCH", 100)
    monkeypatch.setattr(cleanup, "_remove_batch", in_database(remove_and_count))
    await Cleanup().clean()
    assert max(batches) <= 100
    assert sum(batches) == MANY + 5 + 1
    assert await rows() == (1, 10, 0)


async def test_the_batch_size_follows_the_speed_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, limits = 0.0, []
    row_seconds = 0.0001

    async def timed(limit: int) -> int:
        nonlocal clock
        clock += limit * row_seconds
        limits.append(limit)
        return limit

    monkeypatch.setattr(cleanup, "time", SimpleNamespace(monotonic=lambda: clock))
    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(cleanup, "_remove_batch", timed)
    worker = Cleanup()
    for _ in range(8):
        await worker._remove()
    assert limits[-1] == cleanup.BATCH_SECONDS / row_seconds == 200
    row_seconds *= 4
    for _ in range(8):
        await worker._remove()
    assert limits[-1] == 50


async def test_another_worker_continues_the_removal_of_one_that_died(
    room: Room, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0)
    await in_database(room.delete)()
    dying = asyncio.create_task(Cleanup().clean())
    await until(in_database(lambda: Event.objects.count() < MANY))
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert (await rows())[1] > 0
    await Cleanup().clean()
    assert await rows() == (0, 0, 0)


def test_removal_continues_past_rows_that_another_worker_removed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a worker was cut off for longer than its lock lasts, and returns."""
    room.delete()
    find_first, calls = cleanup._first_seq, []

    def find_first_then_remove(room: Room) -> int | None:
        calls.append(room)
        first = find_first(room)
        if len(calls) == 1:
            remove_batch(10)
        return first

    monkeypatch.setattr(cleanup, "_first_seq", find_first_then_remove)
    assert remove_batch(10) == 0
    assert remove_batch(10) == 10


async def test_one_worker_at_a_time_removes_rows(room: Room, bus: Bus, redis_server: RedisServer) -> None:
    await in_database(room.delete)()
    with redis_server.client() as client:
        client.set(redis_keys.cleanup(), "another", px=60_000)
        await Cleanup().clean()
        assert (await rows())[1] == MANY
        client.delete(redis_keys.cleanup())
    await Cleanup().clean()
    assert (await rows())[1] == 0


async def test_deleting_a_room_wakes_a_worker(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    receive = WorkLayer.receive_many

    async def receive_without_timeout(
        self: WorkLayer, channel: str, limit: int, timeout: float
    ) -> list[dict[str, object]]:
        while not (messages := await receive(self, channel, limit, timeout)):
            pass
        return messages

    monkeypatch.setattr(WorkLayer, "receive_many", receive_without_timeout)
    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0)
    worker = Process(worker=True)
    await worker.start()
    try:
        await in_database(room.delete)()
        await until(in_database(lambda: not Room.everything.exists()))
    finally:
        await worker.stop()


async def test_a_worker_finds_deleted_rooms_without_being_woken(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message that wakes it may be lost."""
    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(cleanup, "WAKE_SECONDS", 0.1)
    await in_database(room.delete)()
    await get_channel_layer("work").flush()
    worker = Process(worker=True)
    await worker.start()
    try:
        await until(in_database(lambda: not Room.everything.exists()))
    finally:
        await worker.stop()


async def test_an_error_while_removing_is_counted_and_retried(
    room: Room, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_tasks, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(cleanup, "WAKE_SECONDS", 0.1)
    remove, failures, before = cleanup._remove_batch, [1, 2], counters.restarted

    async def break_twice(limit: int) -> int | None:
        if failures:
            failures.pop()
            raise ZeroDivisionError
        return await remove(limit)

    monkeypatch.setattr(cleanup, "_remove_batch", break_twice)
    await in_database(room.delete)()
    worker = Cleanup()
    await worker.start()
    try:
        await until(in_database(lambda: not Room.everything.exists()))
    finally:
        await worker.stop()
    assert counters.restarted == before + 2


def test_a_room_can_be_deleted_while_redis_is_frozen(
    room: Room, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server.freeze()
    try:
        monkeypatch.setattr("channelbox.work.queue.TIMEOUT_SECONDS", 0.2)
        room.delete()
    finally:
        redis_server.thaw()
    assert not Room.objects.exists()


def test_a_room_can_be_deleted_while_messages_are_stored() -> None:
    """Neither side fails, and no row is left in the end."""
    room = Room.objects.create(name="lobby")
    with storing_messages(
        "lobby", *(IncomingEvent(f"g:{name}", None, name, "", "message", "hi") for name in ("alice", "bob"))
    ) as failed:
        room.delete()
        while remove_batch(3) is not None:
            pass
    assert failed == []
    while remove_batch(100) is not None:
        pass
    assert (Room.everything.count(), Event.objects.count()) == (0, 0)


async def test_deleting_a_room_closes_its_sockets_with_an_error(enter) -> None:
    alice = await enter()
    room = await in_database(Room.objects.get)()
    await in_database(room.delete)()
    error = await alice.next("error")
    assert (error["code"], error["error"]) == ("no_room", "This room was deleted.")
    assert await alice.closed() == 4003


async def test_reconnecting_does_not_recreate_a_deleted_room(enter) -> None:
    alice = await enter()
    room = await in_database(Room.objects.get)()
    await in_database(room.delete)()
    assert await alice.closed() == 4003
    for path in ("/ws/chat/lobby/?after=0", "/ws/chat/lobby/?after=7", "/ws/chat/lobby/"):
        again = await enter(path)
        assert again.welcome["code"] == "no_room"
        assert await again.closed() == 4003
    assert not await in_database(Room.objects.exists)()


async def test_reconnecting_does_not_create_a_missing_room(enter) -> None:
    """The database may be a restored backup from before the room was created."""
    assert (await enter("/ws/chat/lobby/?after=3")).welcome["code"] == "no_room"
    assert (await enter("/ws/chat/lobby/")).welcome["type"] == "welcome"


def test_a_deleted_room_is_recreated_only_on_request(client: Client, settings: Settings) -> None:
    Room.objects.create(name="lobby").delete()
    page = client.get("/chat/room/lobby/")
    assert page.status_code == 404
    assert "It was deleted" in page.text
    assert client.get("/chat/room/lobby/").status_code == 404, "also when the page is reloaded"
    assert not Room.objects.exists()
    assert client.post("/chat/", {"name": "lobby"}).headers["Location"] == "/chat/room/lobby/"
    assert client.get("/chat/room/lobby/").status_code == 200
    assert Room.objects.get().name == "lobby"
    settings.CHANNELBOX_ROOM_CREATION = "staff"
    Room.objects.get().delete()
    assert "It was deleted" not in client.get("/chat/room/lobby/").text


def test_a_user_is_deleted_without_updating_events_at_once(client: Client, room: Room) -> None:
    client.force_login(User.objects.create(username="admin", is_staff=True, is_superuser=True))
    alice = User.objects.create_user("alice", email="alice@example.org")
    Event.objects.filter(room=room).update(user=alice)
    room.members.add(alice)
    address = f"/admin/accounts/user/{alice.pk}/delete/"
    assert client.get(address).status_code == 200
    with CaptureQueriesContext(connection) as queries:
        assert client.post(address, {"post": "yes"}).status_code == 302
    assert not any("UPDATE" in query["sql"] and "chat_event" in query["sql"] for query in queries)
    assert f"/admin/accounts/user/{alice.pk}/" not in client.get("/admin/accounts/user/").text
    marked = User.objects.get(pk=alice.pk)
    assert (marked.is_active, marked.email) == (False, "")
    recreated = User.objects.create_user("alice")
    assert list(iter(lambda: remove_batch(200), None)) == [200, 200, 100, 1, 1]
    assert list(User.objects.filter(pk__in=[alice.pk, recreated.pk])) == [recreated]
    assert set(Event.objects.values_list("name", "user")) == {("alice", None)}


def test_selected_users_are_deleted_without_updating_events(client: Client) -> None:
    client.force_login(User.objects.create(username="admin", is_staff=True, is_superuser=True))
    people = [User.objects.create_user(name) for name in ("alice", "bob")]
    form = {"action": "delete_selected", ACTION_CHECKBOX_NAME: [user.pk for user in people], "post": "yes"}
    with CaptureQueriesContext(connection) as queries:
        client.post("/admin/accounts/user/", form)
    assert not any("chat_event" in query["sql"] and "UPDATE" in query["sql"] for query in queries)
    assert set(User.deleted()) == set(people)
    while remove_batch(10) is not None:
        pass
    assert [user.username for user in User.objects.all()] == ["admin"]


def test_a_user_can_be_deleted_while_sending() -> None:
    """Neither side fails."""
    Room.objects.create(name="lobby")
    alice = User.objects.create_user("alice")
    with storing_messages("lobby", IncomingEvent(f"u:{alice.pk}", alice.pk, "alice", "", "message", "hi")) as failed:
        alice.delete()
        while remove_batch(3) is not None:
            pass
    assert failed == []
    while remove_batch(100) is not None:
        pass
    assert not User.objects.exists()
    assert not Event.objects.exclude(user=None).exists()


def test_names_of_deleted_rooms_are_removed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    Room.objects.create(name="lobby").delete()
    while remove_batch(10) is not None:
        pass
    assert DeletedName.objects.exists()
    monkeypatch.setattr(cleanup, "NAME_DAYS", 0)
    assert remove_batch(10) == 1
    assert not DeletedName.objects.exists()
