"""The storing transaction beside others that hold locks: it leaves their rooms out, and waits for none of them."""

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
def another(sql: str, *parameters: object) -> Iterator[psycopg.Connection[Any]]:
    """Have somebody else run this in a transaction that stays open."""
    connection.ensure_connection()
    info = connection.connection.info
    with psycopg.connect(info.dsn, password=info.password) as other:
        other.execute(sql, parameters)
        yield other
        other.rollback()


@pytest.fixture(autouse=True)
def _server() -> None:
    if connection.vendor != "postgresql":
        # Not there to be tested on SQLite, which has one lock for all; `make test` runs this on PostgreSQL too.
        pytest.skip("SQLite locks no rows")


@pytest.fixture(autouse=True)
def _no_caution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_caution", store._Caution())


@pytest.fixture
def lock_timeouts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what will have been the longest wait for a lock in each transaction, from now on."""
    timeouts: list[str] = []
    read = store_sql.read

    def note(*args: Any, **options: Any) -> store_sql.Read:
        answer = read(*args, **options)
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            timeouts.append(cursor.fetchone()[0])
        return answer

    monkeypatch.setattr(store_sql, "read", note)
    return timeouts


def rooms(count: int) -> list[RoomRef]:
    return [RoomRef(Room.objects.create(name=f"room-{number}").pk, f"room-{number}") for number in range(count)]


def said_by(user: User, id: str = "1") -> IncomingEvent:
    return IncomingEvent(f"u:{user.pk}", user.pk, user.username, id, "message", "hi")


def removed(user: User, seq: int) -> IncomingEvent:
    return IncomingEvent(f"u:{user.pk}", user.pk, user.username, f"removes-{seq}", "deletion", "", {"removes": seq})


def stored_in(stored: store.Stored) -> set[RoomRef]:
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
        of_others = {of_bob: [said_by(bob, id)], of_guest: [IncomingEvent("g:c", None, "charlie", id, "message", "hi")]}
        return {room: [said_by(alice, id)] for room in of_alice} | of_others

    with another(statement, alice.pk):
        for id in ("1", "2"):
            stored = store.store(batch(id))
            assert stored_in(stored) == set(stored.outcomes) == {of_bob, of_guest}
            assert stored.busy == set(of_alice)
    assert len(lock_timeouts) == 3, "the first meets the lock; all that follow leave it out at once"
    assert stored_in(store.store({room: batch("1")[room] for room in of_alice})) == set(of_alice)


def test_a_sender_s_row_is_locked_early_only_after_a_lock_was_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """The foreign key locks it anyway, but not before the commit: other workers' locks are hardly ever met."""
    alice = User.objects.create(username="alice")
    room, other = rooms(2)
    write = store_sql.write
    free: list[bool] = []

    def look(*args: Any) -> None:
        try:
            with another(f"SELECT id FROM {store_sql.USER} WHERE id = %s FOR UPDATE NOWAIT", alice.pk):
                free.append(True)
        except psycopg.errors.LockNotAvailable:
            free.append(False)
        write(*args)

    monkeypatch.setattr(store_sql, "write", look)
    store.store({room: [said_by(alice, "1")]})
    with another(f"SELECT id FROM {store_sql.USER} WHERE id = %s FOR UPDATE", alice.pk):
        store.store({other: [said_by(alice, "1")]})
    free.clear()
    store.store({room: [said_by(alice, "2")]})
    monkeypatch.setattr(store, "_caution", store._Caution())
    store.store({room: [said_by(alice, "3")]})
    assert free == [False, True]


def test_what_a_locked_sender_has_stored_before_is_answered() -> None:
    alice = User.objects.create(username="alice")
    (room,) = rooms(1)
    store.store({room: [said_by(alice)]})
    store._caution.renew()
    with another(f"SELECT id FROM {store_sql.USER} WHERE id = %s FOR UPDATE", alice.pk):
        stored = store.store({room: [said_by(alice)]})
    assert stored.outcomes[room].known == {said_by(alice).key: 1}


def test_two_transactions_may_store_of_one_sender_at_a_time() -> None:
    """As two workers do: what each locks of the sender's row lets the other in."""
    alice = User.objects.create(username="alice")
    first, second = rooms(2)
    store._caution.renew()
    with another(f"SELECT id FROM {store_sql.USER} WHERE id = %s FOR KEY SHARE", alice.pk):
        assert stored_in(store.store({first: [said_by(alice)]})) == {first}
    with another(f"UPDATE {store_sql.USER} SET is_staff = true WHERE id = %s", alice.pk):
        assert stored_in(store.store({second: [said_by(alice)]})) == {second}


def test_a_message_that_is_locked_and_to_be_removed_holds_up_its_room_alone(lock_timeouts: list[str]) -> None:
    alice = User.objects.create(username="alice")
    held, free, unknown = rooms(3)
    store.store({held: [said_by(alice)], free: [said_by(alice)]})
    lock_timeouts.clear()
    batch = {held: [removed(alice, 1)], free: [removed(alice, 1)], unknown: [removed(alice, 1)]}
    with another(f"SELECT id FROM {store_sql.EVENT} WHERE room_id = %s FOR UPDATE", held.key):
        stored = store.store(batch)
    assert stored_in(stored) == {free}
    assert stored.busy == {held}
    assert stored.outcomes[unknown].refused == {removed(alice, 1).key: UNKNOWN}
    assert len(lock_timeouts) == 1, "one transaction, which met no lock"
    assert stored_in(store.store({held: batch[held]})) == {held}
    assert set(Event.objects.filter(seq=1).values_list("text", flat=True)) == {""}


def test_a_lock_on_the_whole_table_is_not_waited_for_in_each_room(lock_timeouts: list[str]) -> None:
    alice = User.objects.create(username="alice")
    batch = {room: [said_by(alice)] for room in rooms(3)}
    with another(f"LOCK TABLE {store_sql.EVENT} IN SHARE MODE"):
        stored = store.store(batch)
    assert stored == store.Stored({}, set(batch))
    assert lock_timeouts == ["100ms", "100ms", "1ms", "1ms", "1ms"]
    assert stored_in(store.store(batch)) == set(batch)
