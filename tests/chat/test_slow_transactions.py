"""A transaction that is slow, waits for a lock or loses its connection delays no room but its own."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any

import psycopg
import pytest
from channels.db import database_sync_to_async as in_database
from channels.routing import ChannelNameRouter
from django.conf import settings
from django.db import InternalError, OperationalError, connection
from django.test import Client
from tests.chat.process import (
    Person,
    enter_rooms,
    installation,
    make_rooms,
    people,
    return_connections,
    runtime,
    workers,
)

from channelbox.accounts.models import User
from channelbox.chat import ingest, store_sql
from channelbox.chat import store as store_module
from channelbox.chat.ingest import INGEST_CHANNEL, INGEST_TYPE, IngestConsumer
from channelbox.chat.models import Event, Room
from channelbox.chat.runtime import ChatRuntime
from channelbox.chat.store import Incoming, Stored, store
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Batch, BatchRef, IncomingEvent, RoomRef
from channelbox.work.queue import WorkLayer
from channelbox.work.worker import Worker

pytestmark = pytest.mark.django_db(transaction=True)

POOL_SECONDS = settings.DATABASES["default"].get("OPTIONS", {}).get("pool", {}).get("timeout", 0)
HEALTHY_SECONDS = 2.0  # for a message that nothing delays, which takes 0.1 s; sent again, 3.5 s


@contextlib.asynccontextmanager
async def one_worker() -> AsyncIterator[None]:
    """Run a worker with the chat's consumer, as `channelbox worker` does."""
    worker = Worker(ChannelNameRouter({INGEST_CHANNEL: IngestConsumer.as_asgi()}), [INGEST_CHANNEL], WorkLayer())
    task = asyncio.create_task(worker.serve())
    try:
        yield
    finally:
        worker.stop()
        await task
        counters.draining = False


@pytest.fixture
def server() -> None:
    """Skip the test unless the database can lock a single row."""
    if connection.vendor != "postgresql":
        # SQLite has one lock for all writes; `make test` runs this on PostgreSQL too.
        pytest.skip("SQLite has no lock for a row")


# --- Transactions that are slow


@pytest.mark.usefixtures("server")
async def test_a_transaction_waits_for_a_free_database_connection(
    runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With several Redis hosts, more may be under way than there are connections: no entry that was taken is lost."""
    most = ingest.MAX_UNDER_WAY
    names = [f"slow-{number}" for number in range(most)] + ["free"]
    await make_rooms(*names)
    keys = await in_database(lambda: dict(Room.objects.values_list("name", "pk")))()
    may_continue, begun = threading.Event(), threading.Semaphore(0)

    def store_slowly(incoming: Incoming) -> Stored:
        if any(room.name != "free" for room in incoming):
            connection.ensure_connection()
            begun.release()
            may_continue.wait(30)
        return store(incoming)

    monkeypatch.setattr(ingest, "_store", in_database(store_slowly, thread_sensitive=False, executor=ingest._threads))

    async def take(name: str) -> None:
        event = IncomingEvent("g:a", None, "a", "1", "message", "hi")
        entry = Batch(BatchRef("nobody", 1), RoomRef(keys[name], name), [event]).entry(INGEST_TYPE)
        await IngestConsumer().dispatch({"type": "batch", "messages": [entry]})

    tasks = [asyncio.create_task(take(name)) for name in names[:-1]]
    try:
        for _ in range(most):
            assert await asyncio.to_thread(begun.acquire, timeout=30)
        tasks.append(asyncio.create_task(take("free")))
        await asyncio.sleep(POOL_SECONDS + 0.5)  # longer than the pool waits for a connection
    finally:
        may_continue.set()
        await asyncio.gather(*tasks)
    assert await in_database(Event.objects.count)() == most + 1
    assert not [record for record in caplog.records if record.name == ingest.logger.name]


@pytest.mark.parametrize("where", ["thread", "database"])
async def test_a_slow_transaction_delays_no_other_room(
    runtime: ChatRuntime, people: list[Person], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """With one worker: it holds no lock that another room needs, and is still slow when its message is sent again."""
    if where == "database" and connection.vendor != "postgresql":
        # Cannot be tested on SQLite; the case "thread" runs on both, and `make test` runs this one on PostgreSQL.
        pytest.skip("SQLite has one lock for all that is written, and a transaction holds it")
    await make_rooms("slow", "free")
    slow, free = await enter_rooms(people, "slow", "free")
    begun, may_continue, write = threading.Event(), threading.Event(), store_sql.write

    def be_slow_once(rooms: Iterable[RoomRef | Room]) -> None:
        if begun.is_set() or not any(room.name == "slow" for room in rooms):
            return
        begun.set()
        while not may_continue.wait(0.1):
            if where == "database":  # an idle transaction would be ended
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
    resent = counters.resent
    async with one_worker():
        try:
            await slow.say("hi", id="slow")
            await asyncio.to_thread(begun.wait, 30)
            number = answered = 0
            while answered < 5:  # after that message was sent again
                async with asyncio.timeout(HEALTHY_SECONDS):
                    await free.say("hi", id=f"free-{number}")
                    assert (await free.next("message", "error"))["id"] == f"free-{number}"
                number += 1
                answered += counters.resent > resent
                await asyncio.sleep(0.1)  # the pace of people who write
        finally:
            may_continue.set()
        assert (await slow.next("message", "error"))["id"] == "slow"
    assert await in_database(Event.objects.filter(room__name="slow").count)() == 1


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("when", ["before it writes", "before it commits"])
async def test_a_transaction_whose_connection_ends_is_restarted_at_once(
    runtime: ChatRuntime, people: list[Person], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    await make_rooms("lobby")
    (alice,) = await enter_rooms(people, "lobby")
    info = await in_database(_info)()
    write, ended = store_sql.write, 0

    def end_once(*args: Any) -> None:
        nonlocal ended
        if when == "before it commits":
            write(*args)
        if not ended:
            ended = connection.connection.info.backend_pid
            with psycopg.connect(info.dsn, password=info.password) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [ended])
        if when == "before it writes":
            write(*args)

    monkeypatch.setattr(store_sql, "write", end_once)
    async with one_worker(), asyncio.timeout(HEALTHY_SECONDS + 10):
        for id in ("a", "b"):
            async with asyncio.timeout(HEALTHY_SECONDS):
                await alice.say("hi", id=id)
                assert (await alice.next("message", "error"))["id"] == id
    assert ended
    assert await in_database(lambda: [event.client_id for event in Event.objects.order_by("seq")])() == ["a", "b"]


# --- Rooms that another transaction has locked


@contextlib.asynccontextmanager
async def locked(table: str, field: str, value: str) -> AsyncIterator[psycopg.Connection[Any]]:
    """Hold the lock of a row on another connection."""
    info = await in_database(_info)()
    with psycopg.connect(info.dsn, password=info.password) as other:
        other.execute(f"SELECT id FROM {table} WHERE {field} = %s FOR UPDATE", [value])
        yield other
        with contextlib.suppress(psycopg.Error):  # the connection may be lost
            other.rollback()


def _info() -> psycopg.ConnectionInfo:
    connection.ensure_connection()
    info: psycopg.ConnectionInfo = connection.connection.info
    return info


@pytest.mark.usefixtures("server")
async def test_a_locked_room_delays_no_other_and_continues_when_unlocked(
    runtime: ChatRuntime, workers: object, people: list[Person]
) -> None:
    await make_rooms("held", "free")
    held, free = await enter_rooms(people, "held", "free")
    async with locked(store_sql.ROOM, "name", "held"):
        await held.say("hi", id="held")
        for number in range(5):
            await free.say("hi", id=f"free-{number}")
            assert (await free.next("message", "error"))["id"] == f"free-{number}"
        assert not await in_database(Event.objects.filter(room__name="held").exists)()
    assert (await held.next("message", "error"))["id"] == "held"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("after", [False, True], ids=["before it writes", "before it commits"])
async def test_a_transaction_that_is_idle_too_long_loses_its_locks(
    runtime: ChatRuntime, workers: object, people: list[Person], monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """As when the machine of a worker is paused: a timeout of the server ends the transaction."""
    await make_rooms("lobby")
    (alice,) = await enter_rooms(people, "lobby")
    room = RoomRef(await in_database(lambda: Room.objects.get().pk)(), "lobby")
    monkeypatch.setattr(store_sql, "LIMITS", store_sql.LIMITS._replace(text=store_sql.LIMITS.text.replace("5s", "1s")))
    write, stopped, may_continue = store_sql.write, threading.Event(), threading.Event()

    def stop_once(*args: Any) -> None:
        first = not stopped.is_set()
        if after:
            write(*args)
        if first:
            stopped.set()
            may_continue.wait(30)
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
        may_continue.set()
    with pytest.raises((OperationalError, InternalError)):
        await storing
    assert await in_database(lambda: [event.client_id for event in Event.objects.all()])() == ["a"]


@pytest.mark.usefixtures("server")
def test_the_storing_transaction_has_lock_and_idle_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """These are settings of the server until the transaction ends."""
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
async def test_a_locked_user_row_delays_no_other_room(
    runtime: ChatRuntime, workers: object, people: list[Person]
) -> None:
    """An event refers to its user, so PostgreSQL locks that row as well."""
    await make_rooms("a", "b")
    alice = Person("/ws/chat/a/", cookie=await in_database(session_of)("alice"))
    people.append(alice)
    await alice.connect()
    (bob,) = await enter_rooms(people, "b")
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


# --- Several transactions of one process


async def test_transactions_wait_for_a_foreign_lock_concurrently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One after the other, the last would wait for the sum of all, and the watchdog would restart the worker."""
    names = [f"room-{number}" for number in range(6)]
    await make_rooms(*names)
    keys = dict(await in_database(lambda: list(Room.objects.values_list("name", "pk")))())
    monkeypatch.setattr(store_module, "WRITE_LOCK_SECONDS", 0.01)
    together = threading.Barrier(len(names))

    def wait_for_it(incoming: Incoming, **options: bool) -> Stored:
        together.wait(10)
        return Stored({}, set(incoming))

    monkeypatch.setattr(store_module, "_store", wait_for_it)
    said = IncomingEvent("g:bob", None, "bob", "b", "message", "hi")
    await asyncio.gather(*(ingest._store({RoomRef(keys[name], name): [said]}) for name in names))
    assert not together.broken


async def test_transactions_of_a_process_take_turns_only_on_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite polls its one write lock only now and then; PostgreSQL has a lock for each room."""
    await make_rooms("one", "two")
    keys = dict(await in_database(lambda: list(Room.objects.values_list("name", "pk")))())
    transact, both = store_module._store, threading.Barrier(2)
    begun: list[set[str]] = []

    def begin_together(incoming: Incoming, **options: bool) -> Stored:
        begun.append({room.name for room in incoming})
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(10 if connection.vendor == "postgresql" else 0.3)
        return transact(incoming, **options)

    monkeypatch.setattr(store_module, "_store", begin_together)
    said = {name: IncomingEvent("g:bob", None, "bob", "b", "message", "hi") for name in keys}
    stored = await asyncio.gather(
        *(in_database(store, thread_sensitive=False)({RoomRef(keys[name], name): [said[name]]}) for name in keys)
    )
    assert both.broken == (connection.vendor == "sqlite")
    assert sorted(begun, key=min) == [{"one"}, {"two"}]
    assert all(len(outcome.stored) == 1 for each in stored for outcome in each.outcomes.values())
