"""Kinds of events other than messages have the same guarantees: in the database, on sockets, over HTTP."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from channels.db import database_sync_to_async as in_database
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings
from tests.chat.process import Person, Workers, enter, installation, people, return_connections, runtime, workers

from channelbox.accounts.models import User
from channelbox.chat import history
from channelbox.chat.ingest import INGEST_TYPE, _Entry
from channelbox.chat.models import Event, Room
from channelbox.chat.runtime import ChatRuntime
from channelbox.chat.store import Outcome, store
from channelbox.realtime.envelope import Batch, BatchRef, IncomingEvent, RoomRef
from channelbox.realtime.errors import Code
from channelbox.realtime.history_source import Identity

pytestmark = pytest.mark.django_db(transaction=True)


def store_in(name: str, *incoming: IncomingEvent) -> Outcome:
    (outcome,) = store({RoomRef(Room.objects.get(name=name).pk, name): incoming}).outcomes.values()
    return outcome


class Senders:
    """Alice, an administrator, and the events that they store in room `r`."""

    def __init__(self) -> None:
        Room.objects.create(name="r")
        self.alice = User.objects.create(username="alice")
        self.chief = User.objects.create(username="chief", is_staff=True)
        self._count = 0

    def incoming(self, user: User, kind: str = "message", text: str = "", id: str = "", **data: Any) -> IncomingEvent:
        self._count += 1
        name = user.get_username()
        return IncomingEvent(f"u:{user.pk}", user.pk, name, id or f"id-{self._count}", kind, text, data or None)

    def store(self, *events: IncomingEvent) -> Outcome:
        return store_in("r", *events)

    def says(self, user: User, text: str) -> None:
        self.store(self.incoming(user, text=text))

    def removes(self, user: User, seq: int, id: str = "") -> Outcome:
        return self.store(self.incoming(user, "deletion", id=id, removes=seq))


@pytest.fixture
def senders() -> Senders:
    return Senders()


def reasons(outcome: Outcome) -> list[Code]:
    return [code for code, _ in outcome.refused.values()]


def test_a_deletion_is_numbered_and_erases_the_text(senders: Senders) -> None:
    senders.says(senders.alice, "a secret")
    senders.says(senders.alice, "no secret")
    outcome = senders.removes(senders.alice, 1)
    assert [event.seq for event in outcome.stored] == [3]
    record = [(event.seq, event.kind, event.text, event.data) for event in Event.objects.order_by("seq")]
    assert record == [
        (1, "message", "", {"removed": {"by": "alice", "seq": 3}}),
        (2, "message", "no secret", None),
        (3, "deletion", "", {"removes": 1}),
    ]


def test_only_staff_can_remove_messages_of_others(senders: Senders) -> None:
    senders.says(senders.chief, "the chief's")
    senders.says(senders.alice, "alice's")
    assert reasons(senders.removes(senders.alice, 1)) == [Code.NOT_ALLOWED]
    assert senders.removes(senders.chief, 2).stored
    assert list(Event.objects.filter(kind="message").order_by("seq").values_list("text", flat=True)) == [
        "the chief's",
        "",
    ]


def test_staff_status_is_checked_when_an_event_is_stored(senders: Senders) -> None:
    senders.says(senders.alice, "alice's")
    User.objects.filter(pk=senders.chief.pk).update(is_staff=False)
    assert reasons(senders.removes(senders.chief, 1)) == [Code.NOT_ALLOWED]
    assert reasons(senders.store(senders.incoming(senders.chief, "announcement", "hear"))) == [Code.NOT_ALLOWED]


def test_a_guest_cannot_remove_messages_of_a_user_of_the_same_name(senders: Senders) -> None:
    senders.says(senders.alice, "alice's")
    guest = IncomingEvent("g:guest", None, "alice", "x", "deletion", "", {"removes": 1})
    assert reasons(senders.store(guest)) == [Code.NOT_ALLOWED]


def test_a_second_deletion_is_refused_even_in_one_batch(senders: Senders) -> None:
    senders.says(senders.alice, "alice's")
    twice = [senders.incoming(senders.alice, "deletion", removes=1) for _ in range(2)]
    outcome = senders.store(*twice)
    assert (len(outcome.stored), reasons(outcome)) == (1, [Code.REMOVED])
    assert reasons(senders.removes(senders.chief, 1)) == [Code.REMOVED]
    assert Room.objects.get().last_seq == 2


def test_only_messages_can_be_removed(senders: Senders) -> None:
    senders.says(senders.alice, "alice's")
    senders.removes(senders.alice, 1)
    assert reasons(senders.removes(senders.alice, 2)) == [Code.NO_MESSAGE]  # the deletion
    assert reasons(senders.removes(senders.alice, 3)) == [Code.NO_MESSAGE]
    # A guessed number, which the message in the same batch is about to get.
    guess = senders.store(
        senders.incoming(senders.alice, text="new"), senders.incoming(senders.alice, "deletion", removes=3)
    )
    assert (len(guess.stored), reasons(guess)) == (1, [Code.NO_MESSAGE])


def test_messages_below_the_floor_cannot_be_removed(senders: Senders) -> None:
    senders.says(senders.alice, "no longer there")
    senders.says(senders.alice, "still there")
    Room.objects.update(floor=2)
    assert reasons(senders.removes(senders.alice, 1)) == [Code.NO_MESSAGE]
    assert senders.removes(senders.alice, 2).stored


def test_a_message_of_another_room_cannot_be_removed(senders: Senders) -> None:
    Room.objects.create(name="s")
    store_in("s", senders.incoming(senders.alice, text="in s"))
    assert reasons(senders.removes(senders.alice, 1)) == [Code.NO_MESSAGE]
    assert Event.objects.get().text == "in s"


def test_a_deletion_from_another_epoch_is_refused(senders: Senders) -> None:
    """It was sent before a backup was restored: another message may have that number now."""
    senders.says(senders.alice, "said since then")
    room = Room.objects.get(name="r")
    late = senders.incoming(senders.alice, "deletion", removes=1)
    for epoch, codes in (("another", [Code.NO_MESSAGE]), (room.full_epoch, [])):
        (outcome,) = store({RoomRef(room.pk, "r", epoch): [late]}).outcomes.values()
        assert reasons(outcome) == codes
    assert Event.objects.get(seq=1).text == ""


def test_a_deletion_sent_again_is_answered_with_its_number(senders: Senders) -> None:
    senders.says(senders.alice, "alice's")
    senders.removes(senders.alice, 1, id="again")
    outcome = senders.removes(senders.alice, 1, id="again")
    assert (outcome.known, outcome.refused) == ({(f"u:{senders.alice.pk}", "again"): 2}, {})


def test_a_removed_message_sent_again_stays_removed(senders: Senders) -> None:
    message = senders.incoming(senders.alice, text="alice's")
    senders.store(message)
    senders.removes(senders.alice, 1)
    assert senders.store(message).known == {message.key: 1}
    assert Event.objects.get(seq=1).text == ""


def test_invalid_events_raise_and_unknown_fields_are_ignored() -> None:
    fields = {"sender": "g:a", "user_id": None, "name": "a", "id": "1", "kind": "message", "text": "hi"}

    def read(event: dict[str, Any]) -> Sequence[IncomingEvent]:
        entry = Batch(BatchRef("web", 1), RoomRef(1, "lobby"), []).entry(INGEST_TYPE)
        return _Entry.of({**entry, "messages": [event]}, until=60).batch.events

    for wrong in ({"kind": "reaction", "text": "+1"}, {"kind": "deletion", "text": ""}, {"data": [1]}):
        with pytest.raises(ValueError):
            read({**fields, **wrong})
    for missing in fields:
        with pytest.raises(ValueError):
            read({name: value for name, value in fields.items() if name != missing})
    assert read({**fields, "added_later": 1}) == [IncomingEvent(**fields)]  # type: ignore[arg-type]


def test_permission_queries_do_not_grow_with_the_batch(senders: Senders) -> None:
    def queries(count: int) -> int:
        events = [senders.incoming(user, text="hi") for user in (senders.alice, senders.chief) for _ in range(count)]
        with CaptureQueriesContext(connection) as captured:
            senders.store(*events)
        return len(captured)

    few = queries(1)
    assert queries(20) == few
    room = Room.objects.get()
    room.members_only = True
    room.save()
    room.members.set([senders.alice, senders.chief])
    assert queries(20) == few + 1


async def signed_in(name: str, settings: Settings, **fields: Any) -> str:
    """Create a user. Returns the key of a session of theirs."""
    user = await in_database(User.objects.create)(username=name, **fields)
    client = Client()
    await in_database(client.force_login)(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


async def send(person: Person, **content: object) -> None:
    await person.socket.send_to(text_data=json.dumps(content))


async def test_a_deletion_reaches_all_members_and_hides_the_text(enter, workers: Workers, runtime: ChatRuntime) -> None:
    alice, bob = await enter(), await enter()
    for text in ("one", "a secret", "three"):
        await alice.say(text)
        await alice.next("message")
    await send(alice, type="delete", seq=2, id="mine")
    for person in (alice, bob):
        deletion = await person.next("deletion")
        assert (deletion["seq"], deletion["removes"], deletion["id"]) == (4, 2, "mine")
        assert (deletion["user"], "message" in deletion) == (alice.welcome["you"], False)
    for path in ("/ws/chat/lobby/", "/ws/chat/lobby/?after=0", "/ws/chat/lobby/?after=1"):
        late = await enter(path)
        received = [await late.next("message", "deletion") for _ in range(late.welcome["seq"] - ("1" in path))]
        assert [event["seq"] for event in received] == list(range(received[0]["seq"], 5))
        removed = next(event for event in received if event["seq"] == 2)
        assert (removed["type"], removed["message"]) == ("message", "")
        assert removed["removed"] == {"by": alice.welcome["you"], "seq": 4}
    assert b"secret" not in (runtime.hub.rooms["lobby"].replay.since(0) or b"secret")


def test_pages_contain_the_messages_changed_by_their_deletions(senders: Senders) -> None:
    """Also those in the same page: the hub may have them already."""
    for text in ("one", "a secret"):
        senders.says(senders.alice, text)
    senders.removes(senders.alice, 2)
    room = Room.objects.get(name="r")
    identity = Identity(room.pk, room.full_epoch)
    *with_it, without = (history.Page("r", identity, seq, 10) for seq in (0, 1, 2, 3))
    runs = history._read_pages([*with_it, without])
    for page in with_it:
        assert [changed for changed, _ in runs[page].replaced] == [2]
        assert b"secret" not in runs[page].frames + runs[page].replaced[0][1]
    assert runs[without].replaced == ()


async def test_a_deletion_read_from_the_database_clears_the_replay_buffer(
    enter, runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker died between its commit and its publish."""
    from channelbox.chat import ingest

    monkeypatch.setattr(runtime.outbox._layer, "expiry", 0.2)
    workers = Workers()
    workers.start()
    alice = await enter()
    await alice.say("a secret")
    await alice.next("message")
    publish_fails = True
    publish = ingest.Bus.publish_many

    async def fail_once(*args: Any) -> None:
        nonlocal publish_fails
        if publish_fails:
            publish_fails = False
            raise OSError("killed")
        await publish(*args)

    monkeypatch.setattr(ingest.Bus, "publish_many", fail_once)
    await send(alice, type="delete", seq=1)
    assert (await alice.next("deletion"))["removes"] == 1
    assert b"secret" not in (runtime.hub.rooms["lobby"].replay.since(0) or b"secret")
    await workers.stop()


async def test_refused_deletions_get_errors_with_their_ids(enter, workers: Workers) -> None:
    alice, bob = await enter(), await enter()
    await alice.say("alice's")
    await alice.next("message")
    for seq, code in ((1, "not_allowed"), (7, "no_message")):
        await send(bob, type="delete", seq=seq, id=f"of-{seq}")
        error = await bob.next("error")
        assert (error["code"], error["id"]) == (code, f"of-{seq}")
    for wrong in (None, "1", True, 0, -1, 1.0, 2**63):
        await send(bob, type="delete", seq=wrong)
        assert (await bob.next("error"))["code"] == "invalid"


async def test_only_staff_can_send_announcements(enter, workers: Workers, settings: Settings) -> None:
    chief = await enter(cookie=await signed_in("chief", settings, is_staff=True))
    alice = await enter(cookie=await signed_in("alice", settings))
    assert (chief.welcome["may"], alice.welcome["may"]) == (["announce", "remove"], [])
    await send(alice, type="announcement", message="me too", id="a")
    error = await alice.next("error")
    assert (error["code"], error["id"]) == ("not_allowed", "a")
    await send(chief, type="announcement", message="Drill at noon.", id="b")
    received = await alice.next("announcement", "message")
    assert (received["type"], received["seq"], received["message"], received["id"]) == (
        "announcement",
        1,
        "Drill at noon.",
        "b",
    )


async def test_an_unknown_kind_of_event_is_delivered_with_its_number(enter, workers: Workers) -> None:
    """A newer version may have stored it: adjacent versions share a database."""
    alice = await enter()
    await alice.say("one")
    await alice.next("message")
    await in_database(_store_unknown_kind)()
    await alice.say("three")
    late = await enter("/ws/chat/lobby/?after=0")
    for person, kinds in ((alice, ["reaction", "message"]), (late, ["message", "reaction", "message"])):
        received = [await person.next("message", "reaction") for _ in kinds]
        assert [event["type"] for event in received] == kinds
        assert [event["seq"] for event in received] == list(range(4 - len(kinds), 4))
    assert received[1]["to"] == 1


def _store_unknown_kind() -> None:
    room = Room.objects.get()
    fields = {"sender": "g:x", "client_id": "x", "name": "x", "at": timezone.now()}
    Event.objects.create(room=room, seq=2, kind="reaction", data={"to": 1, "sign": "+1"}, **fields)
    Room.objects.filter(pk=room.pk).update(last_seq=2)


def test_http_history_hides_removed_text_and_events_are_complete(senders: Senders, client: Client) -> None:
    for text in ("one", "a secret", "three"):
        senders.says(senders.alice, text)
    senders.removes(senders.chief, 2)
    senders.store(senders.incoming(senders.chief, "announcement", "Drill at noon."))
    client.force_login(senders.alice)
    shown = client.get(reverse("chat:history", kwargs={"room_name": "r"}))
    assert "secret" not in shown.text
    assert [(event["seq"], event["message"]) for event in shown.json()["messages"]] == [
        (1, "one"),
        (2, ""),
        (3, "three"),
        (5, "Drill at noon."),
    ]
    assert shown.json()["messages"][1]["removed"] == {"by": "chief", "seq": 4}
    every = client.get(reverse("chat:events", kwargs={"room_name": "r"}), {"after": 1, "limit": 3}).json()["events"]
    assert [(event["seq"], event["type"]) for event in every] == [(2, "message"), (3, "message"), (4, "deletion")]
    assert every[2]["removes"] == 2
