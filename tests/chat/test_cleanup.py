"""Deleting rooms: gone for everybody at once, and their rows afterwards, a few at a time."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest
from channels.db import database_sync_to_async as in_database
from channels.layers import get_channel_layer
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from tests.chat.many import say_much
from tests.chat.process import connections_go_back, enter, installation, live, people
from tests.servers import RedisServer
from tests.waiting import until

from channelbox.accounts.models import User
from channelbox.chat import cleanup
from channelbox.chat.cleanup import MAX_BATCH, Cleanup, remove_batch
from channelbox.chat.draft import Draft
from channelbox.chat.models import DeletedName, Event, Room
from channelbox.chat.store import store
from channelbox.lifespan import Process
from channelbox.realtime import keys
from channelbox.realtime.bus import Bus
from channelbox.work.queue import WorkLayer

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 2500


@pytest.fixture
def room() -> Room:
    room = Room.objects.create(name="lobby")
    room.members.set(User.objects.create(username=f"member-{number}") for number in range(5))
    say_much(room, MANY)
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


@pytest.mark.parametrize("how", [delete, delete_all])
def test_a_deleted_room_gives_its_name_up_with_one_row_changed(room: Room, how: Callable[[Room], None]) -> None:
    with CaptureQueriesContext(connection) as queries:
        how(room)
    assert not any("chat_event" in query["sql"] for query in queries)
    assert not Room.objects.exists()
    assert Event.objects.count() == MANY
    anew = Room.objects.create(name="lobby")
    assert Room.objects.get() == anew
    assert anew.last_seq == 0


def test_deleting_twice_is_once(room: Room) -> None:
    assert room.delete()[0] == 1
    marked = Room.everything.get()
    assert room.delete()[0] == 0
    assert Room.everything.get().deleted_at == marked.deleted_at


async def test_its_rows_go_in_short_transactions(room: Room, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is one statement, with a bounded number of rows, and what others wrote is left alone."""
    other = await in_database(Room.objects.create)(name="other")
    await in_database(say_much)(other, 10)
    await in_database(room.delete)()
    batches: list[int] = []

    def one(limit: int) -> int:
        assert limit <= MAX_BATCH
        with CaptureQueriesContext(connection) as queries:
            batches.append(remove_batch(limit))
        changing = [query["sql"] for query in queries if query["sql"].startswith(("DELETE", "UPDATE"))]
        assert len([sql for sql in changing if "chat_event" in sql]) <= 1
        return batches[-1]

    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(cleanup, "_remove_batch", in_database(one))
    await Cleanup().clean()
    assert max(batches) <= MAX_BATCH
    assert len(batches) > MANY / MAX_BATCH
    assert sum(batches) == MANY + 5 + 1
    assert await rows() == (1, 10, 0)


async def test_another_worker_goes_on_where_one_died(room: Room, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0)
    await in_database(room.delete)()
    dying = asyncio.create_task(Cleanup().clean())
    await until(in_database(lambda: Event.objects.count() < MANY))
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert (await rows())[1] > 0
    await Cleanup().clean()
    assert await rows() == (0, 0, 0)


async def test_one_worker_at_a_time_removes(room: Room, bus: Bus, redis_server: RedisServer) -> None:
    await in_database(room.delete)()
    with redis_server.client() as client:
        client.set(keys.cleanup(), "another", px=60_000)
        await Cleanup().clean()
        assert (await rows())[1] == MANY
        client.delete(keys.cleanup())
    await Cleanup().clean()
    assert (await rows())[1] == 0


async def test_a_worker_is_woken(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    receive = WorkLayer.receive_many

    async def nothing_else(self: WorkLayer, channel: str, limit: int, timeout: float) -> list[dict[str, object]]:
        while not (messages := await receive(self, channel, limit, timeout)):
            pass
        return messages

    monkeypatch.setattr(WorkLayer, "receive_many", nothing_else)
    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0)
    worker = Process(worker=True)
    await worker.start()
    try:
        await in_database(room.delete)()
        await until(in_database(lambda: not Room.everything.exists()))
    finally:
        await worker.stop()


async def test_a_worker_looks_by_itself(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The word to wake it may be lost."""
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


def test_a_room_is_deleted_while_redis_is_away(
    room: Room, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server.freeze()
    try:
        monkeypatch.setattr("channelbox.work.queue.PATIENCE", 0.2)
        room.delete()
    finally:
        redis_server.thaw()
    assert not Room.objects.exists()


def test_a_room_is_deleted_while_people_talk_in_it() -> None:
    """Nothing fails on either side, and nothing is left in the end."""
    room = Room.objects.create(name="lobby")
    talking, failed = threading.Event(), []

    def talk(sender: str) -> None:
        try:
            for number in range(10_000):
                outcome = store(
                    {"lobby": [Draft(sender, None, sender, f"{number}-{n}", "message", "hi") for n in range(5)]}
                )
                if number == 3:
                    talking.set()
                if outcome["lobby"].refused:
                    break
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=talk, args=(f"g:{name}",)) for name in ("alice", "bob")]
    for thread in threads:
        thread.start()
    assert talking.wait(20)
    room.delete()
    while remove_batch(3):
        pass
    for thread in threads:
        thread.join(20)
    assert failed == []
    while remove_batch(100):
        pass
    assert (Room.everything.count(), Event.objects.count()) == (0, 0)


async def test_everybody_in_a_deleted_room_is_told_at_once(enter) -> None:
    alice = await enter()
    room = await in_database(Room.objects.get)()
    await in_database(room.delete)()
    told = await alice.next("error")
    assert (told["code"], told["error"]) == ("no_room", "This room was removed.")
    assert await alice.closed() == 4003


async def test_a_page_that_comes_back_does_not_make_a_deleted_room_anew(enter) -> None:
    alice = await enter()
    room = await in_database(Room.objects.get)()
    await in_database(room.delete)()
    assert await alice.closed() == 4003
    for path in ("/ws/chat/lobby/?after=0", "/ws/chat/lobby/?after=7", "/ws/chat/lobby/"):
        again = await enter(path)
        assert again.welcome["code"] == "no_room"
        assert await again.closed() == 4003
    assert not await in_database(Room.objects.exists)()


async def test_who_comes_back_makes_no_room_that_never_was(enter) -> None:
    """The record may be a restored backup, in which the room is not yet."""
    assert (await enter("/ws/chat/lobby/?after=3")).welcome["code"] == "no_room"
    assert (await enter("/ws/chat/lobby/")).welcome["type"] == "welcome"


def test_a_deleted_room_is_made_anew_by_who_asks_for_it(client: Client, settings: Settings) -> None:
    Room.objects.create(name="lobby").delete()
    page = client.get("/chat/room/lobby/")
    assert page.status_code == 404
    assert "was deleted" in page.text
    assert client.get("/chat/room/lobby/").status_code == 404, "as often as it is loaded again"
    assert not Room.objects.exists()
    assert client.post("/chat/", {"name": "lobby"}).headers["Location"] == "/chat/room/lobby/"
    assert client.get("/chat/room/lobby/").status_code == 200
    assert Room.objects.get().name == "lobby"
    settings.CHANNELBOX_ROOM_CREATION = "staff"
    Room.objects.get().delete()
    assert "was deleted" not in client.get("/chat/room/lobby/").text


def test_the_names_of_deleted_rooms_are_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    Room.objects.create(name="lobby").delete()
    while remove_batch(10):
        pass
    assert DeletedName.objects.exists()
    monkeypatch.setattr(cleanup, "NAME_DAYS", 0)
    assert remove_batch(10) == 1
    assert not DeletedName.objects.exists()
