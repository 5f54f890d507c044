"""No transaction changes many rows, because on SQLite it holds the only write lock.

Rows are counted and not seconds, which depend on the machine.
"""

import datetime
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from channels.db import database_sync_to_async as in_database
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection
from django.db.backends.signals import connection_created
from django.utils import timezone
from tests.chat.many_messages import insert_messages

from channelbox.accounts.management.commands import clear_sessions
from channelbox.accounts.models import User
from channelbox.chat import cleanup
from channelbox.chat.cleanup import Cleanup
from channelbox.chat.ingest import INGEST_TYPE, MAX_TRANSACTION, IngestConsumer
from channelbox.chat.models import Event, Room
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import Batch, BatchRef, IncomingEvent, RoomRef
from channelbox.work.outbox import MAX_BATCH as MAX_ENTRY
from channelbox.work.worker import BATCH as MAX_ENTRIES

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 2500  # rows of each kind, which take several transactions


class Watched:
    """Counts the rows that each transaction of a connection changes. SQLite calls it before each statement."""

    def __init__(self, watched: sqlite3.Connection, rows: list[int]) -> None:
        self.watched = watched
        self.rows = rows
        self.changed = watched.total_changes
        self.begun = False

    def __call__(self, statement: str) -> None:
        word = statement.partition(" ")[0].upper()
        if word == "BEGIN":
            self._note()
            self.begun = True
        elif not self.begun:
            self._note()
        elif word in ("COMMIT", "ROLLBACK"):
            self._note()
            self.begun = False

    def _note(self) -> None:
        if changed := self.watched.total_changes - self.changed:
            self.rows.append(changed)
            self.changed += changed


@pytest.fixture
def transactions() -> Iterator[list[int]]:
    """Return a list of the numbers of rows that each transaction changes, on connections opened from now on."""
    if connection.vendor != "sqlite":
        # These tests are about SQLite's one write lock. `make test` runs them with DATABASE=sqlite.
        pytest.skip("PostgreSQL locks rows, and the rest goes on")
    rows: list[int] = []
    watched: list[Watched] = []

    def watch(connection: Any, **kwargs: Any) -> None:
        watched.append(Watched(connection.connection, rows))
        connection.connection.set_trace_callback(watched[-1])

    connection.close()
    connection_created.connect(watch)
    yield rows
    connection_created.disconnect(watch)


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    yield Bus.current()
    await Bus.current().stop()


def check(transactions: list[int], max_rows: int, all_rows: int) -> None:
    connection.ensure_connection()
    connection.cursor().execute("SELECT 1")  # rows are counted at the next statement
    assert sum(transactions) >= all_rows
    assert max(transactions) <= max_rows


async def test_storing_changes_few_rows_per_transaction(bus: Bus, transactions: list[int]) -> None:
    """With as many entries as a worker takes at once, each of another room."""
    rooms = [RoomRef((await Room.objects.acreate(name=f"room-{n}")).pk, f"room-{n}") for n in range(MAX_ENTRIES)]
    transactions.clear()
    entries = []
    for number, room in enumerate(rooms):
        messages = [_message(f"{number}-{n}") for n in range(MAX_ENTRY if number < 10 else 10)]
        entries.append(Batch(BatchRef("me", number), room, messages).entry(INGEST_TYPE))
    await IngestConsumer().dispatch({"type": "batch", "messages": entries})
    stored = 10 * MAX_ENTRY + (MAX_ENTRIES - 10) * 10
    assert await Event.objects.acount() == stored
    await in_database(check)(transactions, MAX_TRANSACTION + MAX_ENTRIES, stored)


def _message(id: str) -> IncomingEvent:
    return IncomingEvent("g:guest", None, "guest", id, "message", "hi")


async def test_removing_a_room_changes_few_rows_per_transaction(
    bus: Bus, transactions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0)
    await in_database(_make_room)()
    transactions.clear()
    await Cleanup().clean()
    assert not await Event.objects.aexists()
    await in_database(check)(transactions, cleanup.MAX_BATCH, 2 * MANY)


def _make_room() -> None:
    room = Room.objects.create(name="lobby")
    users = User.objects.bulk_create(User(username=f"member-{n}") for n in range(MANY))
    room.members.set(users)
    insert_messages(room, MANY)
    room.delete()


def test_removing_sessions_changes_few_rows_per_transaction(
    transactions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clear_sessions, "PAUSE_SECONDS", 0)
    ended = timezone.now() - datetime.timedelta(days=1)
    Session.objects.bulk_create(Session(session_key=f"old-{n}", expire_date=ended) for n in range(MANY))
    Session.objects.create(session_key="new", expire_date=timezone.now() + datetime.timedelta(days=1))
    transactions.clear()
    call_command("clear_sessions")
    assert [session.session_key for session in Session.objects.all()] == ["new"]
    check(transactions, clear_sessions.MAX_BATCH, MANY)
