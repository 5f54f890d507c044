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


def draft(id: str, sender: str = "g:alice", text: str = "hi", user: int | None = None) -> IncomingEvent:
    return IncomingEvent(sender, user, "alice", id, "message", text)


def store(incoming: dict[str, list[IncomingEvent]]) -> dict[str, Outcome]:
    """Store by the names of rooms. Those that somebody else has locked are tried again, as a worker does."""
    keys = dict(Room.objects.values_list("name", "pk"))
    left = {RoomRef(keys.get(name, -1), name): events for name, events in incoming.items()}
    outcomes: dict[str, Outcome] = {}
    while left:
        stored = store_all(left)
        outcomes |= {room.name: outcome for room, outcome in stored.outcomes.items()}
        left = {room: left[room] for room in stored.busy}
    return outcomes


def record(room: str = "r") -> list[tuple[int, str]]:
    return list(Event.objects.filter(room__name=room).order_by("seq").values_list("seq", "client_id"))


@pytest.fixture(autouse=True)
def room() -> Room:
    return Room.objects.create(name="r")


@pytest.fixture
def server() -> None:
    """For what only a database server can do: keep statements, and die."""
    if connection.vendor != "postgresql":
        # Not there to be tested on SQLite, whose library is in this process; `make test` runs this on PostgreSQL too.
        pytest.skip("SQLite has no server")


def test_it_works() -> None:
    outcome = store({"r": [draft("a"), draft("b")]})["r"]
    assert [(event.seq, event.client_id) for event in outcome.stored] == [(1, "a"), (2, "b")]
    assert record() == [(1, "a"), (2, "b")]
    assert Room.objects.get(name="r").last_seq == 2


def test_all_that_an_event_has_is_stored() -> None:
    """The statements name the fields by themselves."""
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


def test_nothing_is_stored_of_nothing() -> None:
    assert store({"r": []})["r"].refused == {}
    assert store({}) == {}


@pytest.mark.usefixtures("server")
def test_what_is_asked_often_stays_prepared() -> None:
    def prepared() -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT statement FROM pg_prepared_statements ORDER BY prepare_time")
            return [statement.split()[0] for (statement,) in cursor.fetchall()]

    store({"r": [draft("a")]})
    first = prepared()
    assert set(first) == {"SELECT", "INSERT", "WITH"}, "rooms and users, events, numbers"
    store({"r": [draft("b"), draft("c"), draft("d")]})
    assert prepared() == first


def test_numbers_go_on_where_they_ended() -> None:
    store({"r": [draft("a")]})
    store({"r": [draft("b")]})
    assert record() == [(1, "a"), (2, "b")]


def test_the_same_id_of_the_same_sender_is_stored_once_and_answered_with_its_first_number() -> None:
    store({"r": [draft("a"), draft("b")]})
    outcome = store({"r": [draft("b"), draft("c"), draft("c"), draft("a")]})["r"]
    assert [event.client_id for event in outcome.stored] == ["c"]
    assert outcome.known == {("g:alice", "b"): 2, ("g:alice", "c"): 3, ("g:alice", "a"): 1}
    assert record() == [(1, "a"), (2, "b"), (3, "c")]


def test_the_same_id_of_another_sender_is_another_message() -> None:
    store({"r": [draft("a", "g:alice"), draft("a", "g:bob")]})
    assert record() == [(1, "a"), (2, "a")]


def test_rooms_are_numbered_each_by_itself() -> None:
    Room.objects.create(name="s")
    store({"r": [draft("a")], "s": [draft("a"), draft("b")]})
    assert record("r") == [(1, "a")]
    assert record("s") == [(1, "a"), (2, "b")]


def test_a_room_that_is_not_there_is_refused_and_the_others_are_stored() -> None:
    outcomes = store({"gone": [draft("a")], "r": [draft("a")]})
    assert outcomes["gone"].refused["g:alice", "a"][0] == Code.NO_ROOM
    assert record() == [(1, "a")]


def test_a_closed_room_is_refused() -> None:
    Room.objects.filter(name="r").update(closed=True)
    assert store({"r": [draft("a")]})["r"].refused["g:alice", "a"] == (Code.NOT_ALLOWED, "This room is closed.")
    assert record() == []


def test_one_room_that_cannot_be_stored_does_not_hold_up_the_others() -> None:
    Room.objects.create(name="s")
    nameless = IncomingEvent("g:alice", None, None, "a", "message", "hi")  # type: ignore[arg-type]
    outcomes = store({"s": [nameless], "r": [draft("a")]})
    assert outcomes["s"].refused["g:alice", "a"][0] == Code.REFUSED
    assert record("s") == []
    assert record("r") == [(1, "a")]
    assert Room.objects.get(name="s").last_seq == 0


def test_who_was_deactivated_or_deleted_meanwhile_stores_nothing() -> None:
    user = User.objects.create(username="alice")
    User.objects.create(username="bob", is_active=False)
    drafts = [draft(f"of-{pk}", f"u:{pk}", user=pk) for pk in User.objects.values_list("pk", flat=True)]
    user.delete()
    outcome = store({"r": [*drafts, draft("a")]})["r"]
    assert [code for code, _ in outcome.refused.values()] == [Code.SIGN_IN, Code.SIGN_IN]
    assert record() == [(1, "a")]


def test_who_is_no_member_any_more_stores_nothing_and_members_go_on() -> None:
    room = Room.objects.get()
    alice, bob = (User.objects.create(username=name) for name in ("alice", "bob"))
    Room.objects.update(members_only=True)
    room.members.set([bob])
    drafts = [draft("a", f"u:{alice.pk}", user=alice.pk), draft("b", f"u:{bob.pk}", user=bob.pk), draft("guest")]
    outcome = store({"r": drafts})["r"]
    assert {id: code for (_, id), (code, _) in outcome.refused.items()} == {
        "a": Code.NOT_ALLOWED,
        "guest": Code.NOT_ALLOWED,
    }
    assert record() == [(1, "b")]


def test_what_was_stored_before_the_room_was_closed_is_still_answered() -> None:
    store({"r": [draft("a")]})
    Room.objects.update(closed=True)
    outcome = store({"r": [draft("a"), draft("b")]})["r"]
    assert (outcome.known, list(outcome.refused)) == ({("g:alice", "a"): 1}, [("g:alice", "b")])


def test_a_user_that_is_deleted_leaves_what_was_said() -> None:
    user = User.objects.create_user("alice")
    store({"r": [draft("a", f"u:{user.pk}", user=user.pk)]})
    user.delete()
    assert Event.objects.get().name == "alice"


def test_workers_at_once_leave_no_gap_and_no_double() -> None:
    """Eight threads, the same ids from two of them each, two rooms in both orders."""
    Room.objects.create(name="s")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                ids = [f"{number // 2}-{step}-{n}" for n in range(3)]
                names = ("r", "s") if number % 2 else ("s", "r")
                store({name: [draft(id, f"g:{number // 2}") for id in ids] for name in names})
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
        stored = record(name)
        assert [seq for seq, _ in stored] == list(range(1, 121))
        assert len({id for _, id in stored}) == 120
        assert Room.objects.get(name=name).last_seq == 120


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("when", ["read", "write"])
def test_a_server_that_dies_meanwhile_is_told_as_such_and_nothing_is_stored(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = getattr(store_sql, when)

    def dying(*asked: Any, **options: Any) -> Any:
        connection.ensure_connection()
        with psycopg.connect(connection.connection.info.dsn, password=connection.connection.info.password) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])
        return step(*asked, **options)

    with monkeypatch.context() as patch:
        patch.setattr(store_sql, when, dying)
        with pytest.raises(OperationalError):
            store({"r": [draft("a")]})
    connection.close()
    assert record() == []
    assert [event.seq for event in store({"r": [draft("a")]})["r"].stored] == [1]
