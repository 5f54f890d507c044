"""Every message gets one outcome, whoever sent it, wherever its room is heard, and whatever holds up another room."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import psycopg
import pytest
from channels.db import database_sync_to_async as in_database
from channels.layers import get_channel_layer
from django.db import InternalError, OperationalError, connection
from django.test import Client
from pytest_django import Settings
from tests.chat.process import Person, Workers, connections_go_back, installation, live, people, workers
from tests.realtime.two_hosts import hosts_of, one_of_each
from tests.servers import RedisServer
from tests.waiting import until

from channelbox.accounts import revocation
from channelbox.accounts.models import User
from channelbox.chat import ingest, store_sql
from channelbox.chat.cleanup import remove_batch
from channelbox.chat.incoming import IncomingEvent
from channelbox.chat.ingest import INGEST_CHANNEL
from channelbox.chat.live import Live
from channelbox.chat.models import Event, Room
from channelbox.chat.store import Incoming, Stored, store
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import RoomRef
from channelbox.work.message import MAX_RECIPIENTS, Message

pytestmark = pytest.mark.django_db(transaction=True)

# For what nothing holds up, which takes 0.1 s; behind a frozen Redis host it took 5.6
WELL_SECONDS = 4.0


@in_database
def make_rooms(*names: str, **fields: object) -> None:
    for name in names:
        Room.objects.create(name=name, **fields)


async def enter(people: list[Person], *rooms: str) -> list[Person]:
    entered = []
    for room in rooms:
        person = Person(f"/ws/chat/{room}/")
        people.append(person)
        assert (await person.connect())["type"] == "welcome"
        entered.append(person)
    return entered


async def waits(live: Live, count: int) -> None:
    """Return when this process has taken so many messages."""
    async with asyncio.timeout(10):
        while live.outbox._size < count:
            await asyncio.sleep(0.01)


async def test_two_senders_with_the_same_id_in_one_batch_get_an_answer_each(live: Live, people: list[Person]) -> None:
    alice, bob = await enter(people, "lobby", "lobby")
    workers = Workers()
    workers.start()
    await bob.say("bob's", id="1")
    for person in (alice, bob):
        assert (await person.next("message"))["seq"] == 1
    await workers.stop()
    await alice.say("in flight, for there is no worker now", id="0")
    await waits(live, 1)
    await alice.say("alice's", id="1")
    await bob.say("bob's, sent again", id="1")
    await waits(live, 3)
    workers.start()
    assert [await alice.next("message", "stored", "error") for _ in range(2)] == [
        await bob.next("message") for _ in range(2)
    ]
    await alice.say("the next", id="2")
    assert (await alice.next("message", "stored", "error"))["message"] == "the next"
    await workers.stop()


async def test_what_is_sent_again_is_answered_with_its_number(
    live: Live, workers: Workers, people: list[Person]
) -> None:
    (alice,) = await enter(people, "lobby")
    await alice.say("hi", id="1")
    assert (await alice.next("message", "stored"))["type"] == "message"
    await alice.say("hi", id="1")
    assert await alice.next("message", "stored") == {"type": "stored", "id": "1", "seq": 1}


async def test_a_known_message_is_answered_by_its_event_where_that_is_still_to_come(
    live: Live, people: list[Person]
) -> None:
    """Alice sends again through this process what another has stored, before that is heard here."""
    (alice,) = await enter(people, "lobby")
    await in_database(store_one)("lobby", "g:alice", "1")
    room = await in_database(Room.objects.get)(name="lobby")
    (member,) = live.hub.rooms["lobby"].members
    live.outbox.put(RoomRef(room.pk, "lobby"), Message("g:alice", None, "alice", "1", "message", "hi", member))
    workers = Workers()
    workers.start()
    assert (await alice.next("message", "stored"))["type"] == "message"
    await alice.say("next", id="2")
    assert (await alice.next("message", "stored"))["id"] == "2"
    await workers.stop()


def store_one(room: str, sender: str, id: str) -> None:
    found = Room.objects.get(name=room)
    found.last_seq += 1
    Event.objects.create(
        room=found, seq=found.last_seq, sender=sender, client_id=id, name="alice", text="hi", at=found.created_at
    )
    found.save(update_fields=["last_seq"])


def session() -> str:
    """Return the key of a session of alice's."""
    client = Client()
    client.force_login(User.objects.create(username="alice"))
    return str(client.session.session_key)


@pytest.mark.parametrize("outcome", ["stored", "message", "error"])
async def test_every_connection_that_sent_a_message_in_flight_gets_its_answer(
    live: Live, people: list[Person], outcome: str
) -> None:
    await make_rooms("lobby")
    cookie = await in_database(session)()
    if outcome == "stored":
        user = await in_database(User.objects.get)()
        await in_database(store_one)("lobby", f"u:{user.pk}", "1")
    alice = [Person("/ws/chat/lobby/", cookie=cookie) for _ in range(MAX_RECIPIENTS)]
    people += alice
    for person in alice:
        assert (await person.connect())["type"] == "welcome"
        await person.say("hi", id="1")
        await person.say("read", id=" ", type="unknown")  # its error says that the message was read
        assert (await person.next("error"))["code"] == "invalid"
    if outcome == "error":
        await in_database(Room.objects.update)(closed=True)
    workers = Workers()
    workers.start()
    for person in alice:
        answer = await person.next("message", "stored", "error")
        assert (answer.get("type", "error"), answer["id"]) == (outcome, "1")
    await workers.stop()


async def test_connections_past_the_bound_are_told_to_send_again_and_places_of_lost_ones_are_free(
    live: Live, people: list[Person]
) -> None:
    await make_rooms("lobby")
    cookie = await in_database(session)()

    async def say_it() -> Person:
        person = Person("/ws/chat/lobby/", cookie=cookie)
        people.append(person)
        assert (await person.connect())["type"] == "welcome"
        await person.say("hi", id="1")
        await person.say("read", id=" ", type="unknown")
        return person

    alice = [await say_it() for _ in range(MAX_RECIPIENTS)]
    for person in alice:
        assert (await person.next("error"))["code"] == "invalid"
    refused = await (await say_it()).next("error")
    assert (refused["code"], refused["id"]) == ("too_fast", "1")
    assert refused["retry_after"] > 0
    await alice[3].leave()
    people.remove(alice.pop(3))
    assert (await (await say_it()).next("error"))["code"] == "invalid"


# --- Rooms that are deleted


@pytest.mark.parametrize("rows", ["kept", "removed"])
async def test_what_was_sent_to_a_deleted_room_is_not_stored_in_a_new_one_of_its_name(
    live: Live, people: list[Person], monkeypatch: pytest.MonkeyPatch, rows: str
) -> None:
    """Alice's process does not hear of the deletion, which would end her connection before the answer comes."""
    monkeypatch.setattr(revocation, "rules", [])
    (alice,) = await enter(people, "lobby")
    await alice.say("hi", id="old")
    await queued(1)
    old = await in_database(Room.objects.get)()
    await in_database(old.delete)()
    if rows == "removed":
        assert await in_database(remove_batch)(1) == 1
    await make_rooms("lobby")
    (bob,) = await enter(people, "lobby")
    await bob.say("hi", id="new")
    await queued(2)
    workers = Workers()
    workers.start()
    refused = await alice.next("message", "stored", "error")
    assert (refused.get("code"), refused["id"]) == ("no_room", "old")
    message = await bob.next("message", "stored", "error")
    assert (message["id"], message["seq"]) == ("new", 1)
    assert await in_database(lambda: [event.client_id for event in Event.objects.all()])() == ["new"]
    await workers.stop()


async def queued(count: int) -> None:
    """Return when the queue has so many entries."""
    layer = get_channel_layer("work")

    async def has_them() -> bool:
        return bool(await layer.length(INGEST_CHANNEL) == count)

    await until(has_them)


# --- Several Redis hosts


@pytest.fixture
def two_hosts(new_redis: Callable[..., RedisServer], settings: Settings) -> list[RedisServer]:
    servers = [new_redis(), new_redis()]
    settings.CHANNELBOX_REDIS_HOSTS = hosts_of(servers, 5)
    return servers


async def test_a_refusal_is_answered_whatever_hosts_there_are(
    two_hosts: list[RedisServer], live: Live, workers: Workers, people: list[Person]
) -> None:
    names = [f"room-{n}" for n in range(40)]
    rooms = [name for host in (0, 1) for name in [name for name in names if live.bus.host(name) == host][:4]]
    assert len(rooms) == 8
    await make_rooms(*rooms)
    everybody = await enter(people, *rooms)
    await in_database(Room.objects.update)(closed=True)
    for person in everybody:
        await person.say("hi", id="a")
    for person in everybody:
        assert (await person.next("error", "message"))["code"] == "not_allowed"


@pytest.mark.parametrize("frozen", [0, 1])
async def test_a_frozen_redis_host_holds_up_no_room_of_the_other(
    frozen: int, two_hosts: list[RedisServer], live: Live, workers: Workers, people: list[Person]
) -> None:
    rooms = one_of_each(live.bus)
    await make_rooms(*rooms)
    everybody = await enter(people, *rooms)
    stuck, well = everybody[frozen], everybody[1 - frozen]
    two_hosts[frozen].freeze()
    try:
        await stuck.say("hi", id="stuck")
        async with asyncio.timeout(WELL_SECONDS):
            for number in range(5):
                await well.say("hi", id=f"well-{number}")
                assert (await well.next("message", "error"))["id"] == f"well-{number}"
    finally:
        two_hosts[frozen].thaw()
    assert (await stuck.next("message", "error"))["id"] == "stuck"


# --- Transactions that are slow


@pytest.mark.parametrize("where", ["thread", "database"])
async def test_a_slow_transaction_holds_up_no_room_of_another_worker(
    live: Live, workers: Workers, people: list[Person], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """It holds no lock that another room needs, and it is still slow when its message is sent again."""
    if where == "database" and connection.vendor != "postgresql":
        # Not there to be tested on SQLite; the case "thread" runs on both, and `make test` runs this one on PostgreSQL.
        pytest.skip("SQLite has one lock for all that is written, and a transaction holds it")
    await make_rooms("slow", "free")
    slow, free = await enter(people, "slow", "free")
    begun, go_on, write = threading.Event(), threading.Event(), store_sql.write

    def be_slow_once(rooms: Iterable[RoomRef | Room]) -> None:
        if begun.is_set() or not any(room.name == "slow" for room in rooms):
            return
        begun.set()
        while not go_on.wait(0.1):
            if where == "database":  # it would be ended if it were idle
                connection.cursor().execute("SELECT pg_sleep(0.1)")

    def store_slowly(incoming: Incoming) -> Stored:
        be_slow_once(incoming)
        return store(incoming)

    def write_slowly(events: Iterable[Event], rooms: list[Room]) -> None:
        be_slow_once(rooms)
        write(events, rooms)

    if where == "thread":
        monkeypatch.setattr(ingest, "_store", in_database(store_slowly, thread_sensitive=False))
    else:
        monkeypatch.setattr(store_sql, "write", write_slowly)
    another = Workers()
    another.start()
    resent = counters.resent
    try:
        await slow.say("hi", id="slow")
        await asyncio.to_thread(begun.wait, 30)
        number = answered = 0
        while answered < 5:  # since then
            async with asyncio.timeout(WELL_SECONDS):
                await free.say("hi", id=f"free-{number}")
                assert (await free.next("message", "error"))["id"] == f"free-{number}"
            number += 1
            answered += counters.resent > resent
            await asyncio.sleep(0.1)  # the pace at which people talk
    finally:
        go_on.set()
    assert (await slow.next("message", "error"))["id"] == "slow"
    assert await in_database(Event.objects.filter(room__name="slow").count)() == 1
    await another.stop()


# --- Rooms that somebody else has locked


@pytest.fixture
def server() -> None:
    """For what only a database server can do: lock a row and no other."""
    if connection.vendor != "postgresql":
        # SQLite has one lock for all that is written; `make test` runs this on PostgreSQL too.
        pytest.skip("SQLite has no lock for a row")


@contextlib.asynccontextmanager
async def locked(table: str, field: str, value: str) -> AsyncIterator[psycopg.Connection[Any]]:
    """Hold the lock of a row, in a connection of its own."""
    info = await in_database(_info)()
    with psycopg.connect(info.dsn, password=info.password) as other:
        other.execute(f"SELECT id FROM {table} WHERE {field} = %s FOR UPDATE", [value])
        yield other
        with contextlib.suppress(psycopg.Error):  # it may be lost
            other.rollback()


def _info() -> psycopg.ConnectionInfo:
    connection.ensure_connection()
    info: psycopg.ConnectionInfo = connection.connection.info
    return info


@pytest.mark.usefixtures("server")
async def test_a_locked_room_holds_up_no_other_and_goes_on_when_it_is_free(
    live: Live, workers: Workers, people: list[Person]
) -> None:
    await make_rooms("held", "free")
    held, free = await enter(people, "held", "free")
    async with locked(store_sql.ROOM, "name", "held"):
        await held.say("hi", id="held")
        for number in range(5):
            await free.say("hi", id=f"free-{number}")
            assert (await free.next("message", "error"))["id"] == f"free-{number}"
        assert not await in_database(Event.objects.filter(room__name="held").exists)()
    assert (await held.next("message", "error"))["id"] == "held"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("after", [False, True], ids=["before it writes", "before it commits"])
async def test_a_transaction_that_stops_in_the_middle_loses_its_locks(
    live: Live, workers: Workers, people: list[Person], monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """As a worker's whose machine is paused: the server's own time limit ends it."""
    await make_rooms("lobby")
    (alice,) = await enter(people, "lobby")
    room = RoomRef(await in_database(lambda: Room.objects.get().pk)(), "lobby")
    monkeypatch.setattr(store_sql, "LIMITS", store_sql.LIMITS._replace(text=store_sql.LIMITS.text.replace("5s", "1s")))
    write, stopped, go_on = store_sql.write, threading.Event(), threading.Event()

    def stop_once(*args: Any) -> None:
        first = not stopped.is_set()
        if after:
            write(*args)
        if first:
            stopped.set()
            go_on.wait(30)
        if not after:
            write(*args)

    monkeypatch.setattr(store_sql, "write", stop_once)
    said = IncomingEvent("g:bob", None, "bob", "b", "message", "hi")
    storing = asyncio.create_task(in_database(store, thread_sensitive=False)({room: [said]}))
    try:
        await asyncio.to_thread(stopped.wait, 30)
        await alice.say("hi", id="a")
        assert (await alice.next("message", "error"))["id"] == "a"
    finally:
        go_on.set()
    with pytest.raises((OperationalError, InternalError)):
        await storing
    assert await in_database(lambda: [event.client_id for event in Event.objects.all()])() == ["a"]


@pytest.mark.usefixtures("server")
def test_a_transaction_that_stores_waits_for_nothing_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """By settings of the server, which hold until it ends."""
    room = RoomRef(Room.objects.create(name="lobby").pk, "lobby")
    names = ("lock_timeout", "idle_in_transaction_session_timeout")
    shown: list[list[str]] = []
    write = store_sql.write

    def show(*args: Any) -> None:
        shown.append([_setting(name) for name in names])
        write(*args)

    monkeypatch.setattr(store_sql, "write", show)
    before = [_setting(name) for name in names]
    store({room: [IncomingEvent("g:bob", None, "bob", "b", "message", "hi")]})
    assert shown == [["100ms", "5s"]]
    assert [_setting(name) for name in names] == before != shown[0]


def _setting(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return str(cursor.fetchone()[0])


@pytest.mark.usefixtures("server")
async def test_a_sender_whose_row_is_locked_holds_up_no_other_room(
    live: Live, workers: Workers, people: list[Person]
) -> None:
    """Storing refers to the user, so PostgreSQL looks at that row's lock as well."""
    await make_rooms("a", "b")
    alice = Person("/ws/chat/a/", cookie=await in_database(session_of)("alice"))
    people.append(alice)
    await alice.connect()
    (bob,) = await enter(people, "b")
    async with locked(store_sql.USER, "username", "alice"):
        await alice.say("hi", id="alice")
        for number in range(3):
            await bob.say("hi", id=f"bob-{number}")
            assert (await bob.next("message", "error"))["id"] == f"bob-{number}"
    assert (await alice.next("message", "error"))["id"] == "alice"


def session_of(name: str) -> str:
    client = Client()
    client.force_login(User.objects.create(username=name))
    return str(client.session.session_key)
