"""The storing transaction beside others that hold locks: it leaves their rooms out and does not wait for each."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection

from channelbox.accounts.models import User
from channelbox.chat import store, store_sql
from channelbox.chat.deletion import UNKNOWN
from channelbox.chat.models import Event, Room
from channelbox.realtime.envelope import IncomingEvent, RoomRef

pytestmark = pytest.mark.django_db(transaction=True)

ROOMS = 20


@contextlib.contextmanager
def other_transaction(sql: str, *parameters: object) -> Iterator[psycopg.Connection[Any]]:
    """Run a statement on another connection, in a transaction that stays open."""
    connection.ensure_connection()
    info = connection.connection.info
    with psycopg.connect(info.dsn, password=info.password) as other:
        other.execute(sql, parameters)
        yield other
        other.rollback()


@pytest.fixture(autouse=True)
def _server() -> None:
    if connection.vendor != "postgresql":
        # Cannot be tested on SQLite, which has one lock for everything; `make test` runs this on PostgreSQL too.
        pytest.skip("SQLite locks no rows")


@pytest.fixture(autouse=True)
def _no_caution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_caution", store._Caution())


@pytest.fixture
def lock_timeouts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the lock timeout of each transaction from now on."""
    timeouts: list[str] = []
    read = store_sql.read

    def recording_read(*args: Any, **options: Any) -> store_sql.Read:
        answer = read(*args, **options)
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            timeouts.append(cursor.fetchone()[0])
        return answer

    monkeypatch.setattr(store_sql, "read", recording_read)
    return timeouts


def rooms(count: int) -> list[RoomRef]:
    return [RoomRef(Room.objects.create(name=f"room-{number}").pk, f"room-{number}") for number in range(count)]


def message_of(user: User, id: str = "1") -> IncomingEvent:
    return IncomingEvent(f"u:{user.pk}", user.pk, user.username, id, "message", "hi")


def deletion_of(user: User, seq: int) -> IncomingEvent:
    return IncomingEvent(f"u:{user.pk}", user.pk, user.username, f"removes-{seq}", "deletion", "", {"removes": seq})


def rooms_with_stored(stored: store.Stored) -> set[RoomRef]:
    return {room for room, outcome in stored.outcomes.items() if outcome.stored}


@pytest.mark.parametrize(
    "statement",
    [f"SELECT id FROM {store_sql.USER} WHERE id = %s FOR UPDATE", f"DELETE FROM {store_sql.USER} WHERE id = %s"],
    ids=["locked", "being deleted"],
)
def test_rooms_of_a_locked_sender_are_left_out_without_waiting_for_each(
    statement: str, lock_timeouts: list[str]
) -> None:
    alice, bob = (User.objects.create(username=name) for name in ("alice", "bob"))
    *of_alice, of_bob, of_guest = rooms(ROOMS)

    def batch(id: str) -> dict[RoomRef, list[IncomingEvent]]:
        of_others = {
            of_bob: [message_of(bob, id)],
            of_guest: [IncomingEvent("g:c", None, "charlie", id, "message", "hi")],
        }
        return {room: [message_of(alice, id)] for room in of_alice} | of_others

    with other_transaction(statement, alice.pk):
        for id in ("1", "2"):
            stored = store.store(batch(id))
            assert rooms_with_stored(stored) == set(stored.outcomes) == {of_bob, of_guest}
            assert stored.busy == set(of_alice)
    assert len(lock_timeouts) == 3, "the first waits for the lock; all that follow leave its rooms out at once"
    assert rooms_with_stored(store.store({room: batch("1")[room] for room in of_alice})) == set(of_alice)


def test_user_rows_are_locked_early_only_after_a_lock_was_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """The foreign key locks the row anyway, but only at the commit, where it hardly ever meets other workers' locks."""
    alice = User.objects.create(username="alice")
    room, other = rooms(2)
    write = store_sql.write
    free: list[bool] = []

    def try_to_lock(*args: Any) -> None:
        try:
            with other_transaction(f"SELECT id FROM {store_sql.USER} WHERE id = %s FOR UPDATE NOWAIT", alice.pk):
                free.append(True)
        except psycopg.errors.LockNotAvailable:
            free.append(False)
        write(*args)

    monkeypatch.setattr(store_sql, "write", try_to_lock)
    store.store({room: [message_of(alice, "1")]})
    with other_transaction(f"SELECT id FROM {store_sql.USER} WHERE id = %s FOR UPDATE", alice.pk):
        store.store({other: [message_of(alice, "1")]})
    free.clear()
    store.store({room: [message_of(alice, "2")]})
    monkeypatch.setattr(store, "_caution", store._Caution())
    store.store({room: [message_of(alice, "3")]})
    assert free == [False, True]


def test_a_message_stored_before_is_answered_while_its_user_is_locked() -> None:
    alice = User.objects.create(username="alice")
    (room,) = rooms(1)
    store.store({room: [message_of(alice)]})
    store._caution.renew()
    with other_transaction(f"SELECT id FROM {store_sql.USER} WHERE id = %s FOR UPDATE", alice.pk):
        stored = store.store({room: [message_of(alice)]})
    assert stored.outcomes[room].known == {message_of(alice).key: 1}


def test_two_transactions_can_store_for_one_sender_at_once() -> None:
    """As two workers do: their locks on the sender's row are compatible."""
    alice = User.objects.create(username="alice")
    first, second = rooms(2)
    store._caution.renew()
    with other_transaction(f"SELECT id FROM {store_sql.USER} WHERE id = %s FOR KEY SHARE", alice.pk):
        assert rooms_with_stored(store.store({first: [message_of(alice)]})) == {first}
    with other_transaction(f"UPDATE {store_sql.USER} SET is_staff = true WHERE id = %s", alice.pk):
        assert rooms_with_stored(store.store({second: [message_of(alice)]})) == {second}


def test_a_deletion_of_a_locked_message_delays_only_its_room(lock_timeouts: list[str]) -> None:
    alice = User.objects.create(username="alice")
    held, free, unknown = rooms(3)
    store.store({held: [message_of(alice)], free: [message_of(alice)]})
    lock_timeouts.clear()
    batch = {held: [deletion_of(alice, 1)], free: [deletion_of(alice, 1)], unknown: [deletion_of(alice, 1)]}
    with other_transaction(f"SELECT id FROM {store_sql.EVENT} WHERE room_id = %s FOR UPDATE", held.key):
        stored = store.store(batch)
    assert rooms_with_stored(stored) == {free}
    assert stored.busy == {held}
    assert stored.outcomes[unknown].refused == {deletion_of(alice, 1).key: UNKNOWN}
    assert len(lock_timeouts) == 1, "one transaction, which met no lock"
    assert rooms_with_stored(store.store({held: batch[held]})) == {held}
    assert set(Event.objects.filter(seq=1).values_list("text", flat=True)) == {""}


def test_a_table_lock_is_waited_for_once_for_all_rooms(lock_timeouts: list[str]) -> None:
    alice = User.objects.create(username="alice")
    batch = {room: [message_of(alice)] for room in rooms(3)}
    with other_transaction(f"LOCK TABLE {store_sql.EVENT} IN SHARE MODE"):
        stored = store.store(batch)
    assert stored == store.Stored({}, set(batch))
    assert lock_timeouts == ["100ms", "100ms", "1ms", "1ms", "1ms"]
    assert rooms_with_stored(store.store(batch)) == set(batch)
