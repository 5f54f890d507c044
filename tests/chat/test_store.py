"""The storing transaction, on SQLite and on PostgreSQL alike (--database)."""

import threading
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from channelbox.accounts.models import User
from channelbox.chat import store_sql
from channelbox.chat.models import Event, Room
from channelbox.chat.store import Outcome
from channelbox.chat.store import store as store_all
from channelbox.chat.store_sql import EVENT_FIELDS
from channelbox.realtime.envelope import IncomingEvent, RoomRef
from channelbox.realtime.errors import Code

pytestmark = pytest.mark.django_db(transaction=True)


def message(id: str, sender: str = "g:alice", text: str = "hi", user: int | None = None) -> IncomingEvent:
    return IncomingEvent(sender, user, "alice", id, "message", text)


def store(incoming: dict[str, list[IncomingEvent]]) -> dict[str, Outcome]:
    """Store messages by the names of rooms. Rooms that are locked are tried again, as a worker does."""
    keys = dict(Room.objects.values_list("name", "pk"))
    left = {RoomRef(keys.get(name, -1), name): events for name, events in incoming.items()}
    outcomes: dict[str, Outcome] = {}
    while left:
        stored = store_all(left)
        outcomes |= {room.name: outcome for room, outcome in stored.outcomes.items()}
        left = {room: left[room] for room in stored.busy}
    return outcomes


def stored_events(room: str = "r") -> list[tuple[int, str]]:
    return list(Event.objects.filter(room__name=room).order_by("seq").values_list("seq", "client_id"))


@pytest.fixture(autouse=True)
def room() -> Room:
    return Room.objects.create(name="r")


@pytest.fixture
def server() -> None:
    """Skip the test unless the database is a server, which keeps statements and may end a connection."""
    if connection.vendor != "postgresql":
        # Cannot be tested on SQLite, whose library is in this process; `make test` runs this on PostgreSQL too.
        pytest.skip("SQLite has no server")


def test_new_messages_are_numbered_and_stored() -> None:
    outcome = store({"r": [message("a"), message("b")]})["r"]
    assert [(event.seq, event.client_id) for event in outcome.stored] == [(1, "a"), (2, "b")]
    assert stored_events() == [(1, "a"), (2, "b")]
    assert Room.objects.get(name="r").last_seq == 2


def test_every_field_of_an_event_is_stored() -> None:
    """The SQL statements have a list of fields of their own."""
    fields = [field.attname for field in Event._meta.concrete_fields if not field.primary_key]
    assert sorted(EVENT_FIELDS) == sorted(fields)
    alice = User.objects.create(username="alice")
    store(
        {
            "r": [
                IncomingEvent(
                    "u:1", alice.pk, "Alice \u00fc", "a", "message", 'say "hi", {}\\', {"more": ["\u00fc", None, 1.5]}
                )
            ]
        }
    )
    (event,) = Event.objects.all()
    assert (event.kind, event.sender, event.client_id, event.user) == ("message", "u:1", "a", alice)
    assert (event.name, event.text, event.data) == ("Alice \u00fc", 'say "hi", {}\\', {"more": ["\u00fc", None, 1.5]})
    assert event.at == Room.objects.get().changed_at
    assert abs((timezone.now() - event.at).total_seconds()) < 60


def test_storing_without_messages_does_nothing() -> None:
    assert store({"r": []})["r"].refused == {}
    assert store({}) == {}


@pytest.mark.usefixtures("server")
def test_the_storing_statements_stay_prepared() -> None:
    def prepared() -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT statement FROM pg_prepared_statements ORDER BY prepare_time")
            return [statement.split()[0] for (statement,) in cursor.fetchall()]

    store({"r": [message("a")]})
    first = prepared()
    assert set(first) == {"SELECT", "INSERT", "WITH"}, "rooms and users, events, numbers"
    store({"r": [message("b"), message("c"), message("d")]})
    assert prepared() == first


def test_numbers_continue_after_the_last_one() -> None:
    store({"r": [message("a")]})
    store({"r": [message("b")]})
    assert stored_events() == [(1, "a"), (2, "b")]


def test_a_repeated_id_is_stored_once_and_gets_its_first_number() -> None:
    store({"r": [message("a"), message("b")]})
    outcome = store({"r": [message("b"), message("c"), message("c"), message("a")]})["r"]
    assert [event.client_id for event in outcome.stored] == ["c"]
    assert outcome.known == {("g:alice", "b"): 2, ("g:alice", "c"): 3, ("g:alice", "a"): 1}
    assert stored_events() == [(1, "a"), (2, "b"), (3, "c")]


def test_equal_ids_of_different_senders_are_different_messages() -> None:
    store({"r": [message("a", "g:alice"), message("a", "g:bob")]})
    assert stored_events() == [(1, "a"), (2, "a")]


def test_each_room_has_its_own_numbers() -> None:
    Room.objects.create(name="s")
    store({"r": [message("a")], "s": [message("a"), message("b")]})
    assert stored_events("r") == [(1, "a")]
    assert stored_events("s") == [(1, "a"), (2, "b")]


def test_a_missing_room_is_refused_and_other_rooms_are_stored() -> None:
    outcomes = store({"gone": [message("a")], "r": [message("a")]})
    assert outcomes["gone"].refused["g:alice", "a"][0] == Code.NO_ROOM
    assert stored_events() == [(1, "a")]


def test_messages_to_a_closed_room_are_refused() -> None:
    Room.objects.filter(name="r").update(closed=True)
    assert store({"r": [message("a")]})["r"].refused["g:alice", "a"] == (Code.NOT_ALLOWED, "This room is closed.")
    assert stored_events() == []


def test_a_room_that_cannot_be_stored_does_not_affect_others() -> None:
    Room.objects.create(name="s")
    nameless = IncomingEvent("g:alice", None, None, "a", "message", "hi")  # type: ignore[arg-type]
    outcomes = store({"s": [nameless], "r": [message("a")]})
    assert outcomes["s"].refused["g:alice", "a"][0] == Code.REFUSED
    assert stored_events("s") == []
    assert stored_events("r") == [(1, "a")]
    assert Room.objects.get(name="s").last_seq == 0


def test_messages_of_deactivated_or_deleted_users_are_refused() -> None:
    user = User.objects.create(username="alice")
    User.objects.create(username="bob", is_active=False)
    messages = [message(f"of-{pk}", f"u:{pk}", user=pk) for pk in User.objects.values_list("pk", flat=True)]
    user.delete()
    outcome = store({"r": [*messages, message("a")]})["r"]
    assert [code for code, _ in outcome.refused.values()] == [Code.SIGN_IN, Code.SIGN_IN]
    assert stored_events() == [(1, "a")]


def test_only_current_members_can_store_in_a_members_only_room() -> None:
    room = Room.objects.get()
    alice, bob = (User.objects.create(username=name) for name in ("alice", "bob"))
    Room.objects.update(members_only=True)
    room.members.set([bob])
    messages = [
        message("a", f"u:{alice.pk}", user=alice.pk),
        message("b", f"u:{bob.pk}", user=bob.pk),
        message("guest"),
    ]
    outcome = store({"r": messages})["r"]
    assert {id: code for (_, id), (code, _) in outcome.refused.items()} == {
        "a": Code.NOT_ALLOWED,
        "guest": Code.NOT_ALLOWED,
    }
    assert stored_events() == [(1, "b")]


def test_a_message_stored_before_the_room_closed_is_still_answered() -> None:
    store({"r": [message("a")]})
    Room.objects.update(closed=True)
    outcome = store({"r": [message("a"), message("b")]})["r"]
    assert (outcome.known, list(outcome.refused)) == ({("g:alice", "a"): 1}, [("g:alice", "b")])


def test_events_of_a_deleted_user_are_kept() -> None:
    user = User.objects.create_user("alice")
    store({"r": [message("a", f"u:{user.pk}", user=user.pk)]})
    user.delete()
    assert Event.objects.get().name == "alice"


def test_concurrent_workers_leave_no_gap_and_no_duplicate() -> None:
    """Eight threads, each two with the same ids, and two rooms in both orders."""
    Room.objects.create(name="s")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                ids = [f"{number // 2}-{step}-{n}" for n in range(3)]
                names = ("r", "s") if number % 2 else ("s", "r")
                store({name: [message(id, f"g:{number // 2}") for id in ids] for name in names})
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    for name in ("r", "s"):
        stored = stored_events(name)
        assert [seq for seq, _ in stored] == list(range(1, 121))
        assert len({id for _, id in stored}) == 120
        assert Room.objects.get(name=name).last_seq == 120


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("when", ["read", "write"])
def test_a_lost_connection_raises_and_nothing_is_stored(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step = getattr(store_sql, when)

    def terminate_connection(*asked: Any, **options: Any) -> Any:
        connection.ensure_connection()
        with psycopg.connect(connection.connection.info.dsn, password=connection.connection.info.password) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])
        return step(*asked, **options)

    with monkeypatch.context() as patch:
        patch.setattr(store_sql, when, terminate_connection)
        with pytest.raises(OperationalError):
            store({"r": [message("a")]})
    connection.close()
    assert stored_events() == []
    assert [event.seq for event in store({"r": [message("a")]})["r"].stored] == [1]
