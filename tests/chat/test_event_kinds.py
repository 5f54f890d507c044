"""Events of other kinds than messages, under the same promises: in the record, on the sockets, over HTTP."""

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
from tests.chat.process import Person, Workers, connections_go_back, enter, installation, people, runtime, workers

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
    """Alice and an administrator, and what they put into room `r`."""

    def __init__(self) -> None:
        Room.objects.create(name="r")
        self.alice = User.objects.create(username="alice")
        self.chief = User.objects.create(username="chief", is_staff=True)
        self._count = 0

    def draft(self, user: User, kind: str = "message", text: str = "", id: str = "", **data: Any) -> IncomingEvent:
        self._count += 1
        name = user.get_username()
        return IncomingEvent(f"u:{user.pk}", user.pk, name, id or f"id-{self._count}", kind, text, data or None)

    def store(self, *drafts: IncomingEvent) -> Outcome:
        return store_in("r", *drafts)

    def says(self, user: User, text: str) -> None:
        self.store(self.draft(user, text=text))

    def removes(self, user: User, seq: int, id: str = "") -> Outcome:
        return self.store(self.draft(user, "deletion", id=id, removes=seq))


@pytest.fixture
def senders() -> Senders:
    return Senders()


def reasons(outcome: Outcome) -> list[Code]:
    return [code for code, _ in outcome.refused.values()]


def test_a_deletion_has_a_number_and_takes_the_text_out_of_the_record(senders: Senders) -> None:
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


def test_others_messages_are_removed_by_staff_only(senders: Senders) -> None:
    senders.says(senders.chief, "the chief's")
    senders.says(senders.alice, "alice's")
    assert reasons(senders.removes(senders.alice, 1)) == [Code.NOT_ALLOWED]
    assert senders.removes(senders.chief, 2).stored
    assert list(Event.objects.filter(kind="message").order_by("seq").values_list("text", flat=True)) == [
        "the chief's",
        "",
    ]


def test_who_is_no_longer_staff_when_it_is_stored_removes_nothing(senders: Senders) -> None:
    senders.says(senders.alice, "alice's")
    User.objects.filter(pk=senders.chief.pk).update(is_staff=False)
    assert reasons(senders.removes(senders.chief, 1)) == [Code.NOT_ALLOWED]
    assert reasons(senders.store(senders.draft(senders.chief, "announcement", "hear"))) == [Code.NOT_ALLOWED]


def test_the_same_name_is_not_the_same_sender(senders: Senders) -> None:
    senders.says(senders.alice, "alice's")
    guest = IncomingEvent("g:guest", None, "alice", "x", "deletion", "", {"removes": 1})
    assert reasons(senders.store(guest)) == [Code.NOT_ALLOWED]


def test_a_second_deletion_is_refused_also_in_one_batch(senders: Senders) -> None:
    senders.says(senders.alice, "alice's")
    twice = [senders.draft(senders.alice, "deletion", removes=1) for _ in range(2)]
    outcome = senders.store(*twice)
    assert (len(outcome.stored), reasons(outcome)) == (1, [Code.REMOVED])
    assert reasons(senders.removes(senders.chief, 1)) == [Code.REMOVED]
    assert Room.objects.get().last_seq == 2


def test_what_is_no_message_cannot_be_removed(senders: Senders) -> None:
    senders.says(senders.alice, "alice's")
    senders.removes(senders.alice, 1)
    assert reasons(senders.removes(senders.alice, 2)) == [Code.NO_MESSAGE]  # the deletion
    assert reasons(senders.removes(senders.alice, 3)) == [Code.NO_MESSAGE]
    # A number that nobody has seen yet, though the message is in the same batch.
    guess = senders.store(senders.draft(senders.alice, text="new"), senders.draft(senders.alice, "deletion", removes=3))
    assert (len(guess.stored), reasons(guess)) == (1, [Code.NO_MESSAGE])


def test_what_is_below_the_floor_cannot_be_removed(senders: Senders) -> None:
    senders.says(senders.alice, "no longer there")
    senders.says(senders.alice, "still there")
    Room.objects.update(floor=2)
    assert reasons(senders.removes(senders.alice, 1)) == [Code.NO_MESSAGE]
    assert senders.removes(senders.alice, 2).stored


def test_a_message_of_another_room_is_not_reached(senders: Senders) -> None:
    Room.objects.create(name="s")
    store_in("s", senders.draft(senders.alice, text="in s"))
    assert reasons(senders.removes(senders.alice, 1)) == [Code.NO_MESSAGE]
    assert Event.objects.get().text == "in s"


def test_a_deletion_of_a_number_of_another_epoch_removes_nothing(senders: Senders) -> None:
    """It was sent before a backup was restored, and waited: another message may have that number now."""
    senders.says(senders.alice, "said since then")
    room = Room.objects.get(name="r")
    late = senders.draft(senders.alice, "deletion", removes=1)
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
    message = senders.draft(senders.alice, text="alice's")
    senders.store(message)
    senders.removes(senders.alice, 1)
    assert senders.store(message).known == {message.key: 1}
    assert Event.objects.get(seq=1).text == ""


def test_what_this_version_does_not_know_is_left_to_a_newer_one() -> None:
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


def test_rights_cost_one_read_for_a_batch_and_one_more_where_rooms_are_for_members(senders: Senders) -> None:
    def queries(count: int) -> int:
        drafts = [senders.draft(user, text="hi") for user in (senders.alice, senders.chief) for _ in range(count)]
        with CaptureQueriesContext(connection) as captured:
            senders.store(*drafts)
        return len(captured)

    few = queries(1)
    assert queries(20) == few
    room = Room.objects.get()
    room.members_only = True
    room.save()
    room.members.set([senders.alice, senders.chief])
    assert queries(20) == few + 1


async def signed_in(name: str, settings: Settings, **fields: Any) -> str:
    """The session of a new user."""
    user = await in_database(User.objects.create)(username=name, **fields)
    client = Client()
    await in_database(client.force_login)(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


async def send(person: Person, **content: object) -> None:
    await person.socket.send_to(text_data=json.dumps(content))


async def test_everybody_hears_a_deletion_and_nobody_gets_the_text_again(
    enter, workers: Workers, runtime: ChatRuntime
) -> None:
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
        heard = [await late.next("message", "deletion") for _ in range(late.welcome["seq"] - ("1" in path))]
        assert [event["seq"] for event in heard] == list(range(heard[0]["seq"], 5))
        removed = next(event for event in heard if event["seq"] == 2)
        assert (removed["type"], removed["message"]) == ("message", "")
        assert removed["removed"] == {"by": alice.welcome["you"], "seq": 4}
    assert b"secret" not in (runtime.hub.rooms["lobby"].replay.since(0) or b"secret")


def test_what_is_read_back_tells_of_every_deletion_in_it_what_it_changed(senders: Senders) -> None:
    """Also of what is read together with it: the hub may have that already."""
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


async def test_a_deletion_that_was_read_from_the_record_takes_the_text_out_of_the_ring_too(
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
    silent = True
    publish = ingest.Bus.publish_many

    async def sometimes(*args: Any) -> None:
        nonlocal silent
        if silent:
            silent = False
            raise OSError("killed")
        await publish(*args)

    monkeypatch.setattr(ingest.Bus, "publish_many", sometimes)
    await send(alice, type="delete", seq=1)
    assert (await alice.next("deletion"))["removes"] == 1
    assert b"secret" not in (runtime.hub.rooms["lobby"].replay.since(0) or b"secret")
    await workers.stop()


async def test_refused_deletions_are_told_with_their_id(enter, workers: Workers) -> None:
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


async def test_an_announcement_is_for_staff(enter, workers: Workers, settings: Settings) -> None:
    chief = await enter(cookie=await signed_in("chief", settings, is_staff=True))
    alice = await enter(cookie=await signed_in("alice", settings))
    assert (chief.welcome["may"], alice.welcome["may"]) == (["announce", "remove"], [])
    await send(alice, type="announcement", message="me too", id="a")
    error = await alice.next("error")
    assert (error["code"], error["id"]) == ("not_allowed", "a")
    await send(chief, type="announcement", message="Drill at noon.", id="b")
    heard = await alice.next("announcement", "message")
    assert (heard["type"], heard["seq"], heard["message"], heard["id"]) == ("announcement", 1, "Drill at noon.", "b")


async def test_a_kind_that_nobody_here_knows_keeps_its_number(enter, workers: Workers) -> None:
    """As a newer version stores it: adjacent versions share a database."""
    alice = await enter()
    await alice.say("one")
    await alice.next("message")
    await in_database(_newer)()
    await alice.say("three")
    late = await enter("/ws/chat/lobby/?after=0")
    for person, kinds in ((alice, ["reaction", "message"]), (late, ["message", "reaction", "message"])):
        heard = [await person.next("message", "reaction") for _ in kinds]
        assert [event["type"] for event in heard] == kinds
        assert [event["seq"] for event in heard] == list(range(4 - len(kinds), 4))
    assert heard[1]["to"] == 1


def _newer() -> None:
    room = Room.objects.get()
    fields = {"sender": "g:x", "client_id": "x", "name": "x", "at": timezone.now()}
    Event.objects.create(room=room, seq=2, kind="reaction", data={"to": 1, "sign": "+1"}, **fields)
    Room.objects.filter(pk=room.pk).update(last_seq=2)


def test_over_http_history_shows_what_is_left_and_events_leaves_nothing_out(senders: Senders, client: Client) -> None:
    for text in ("one", "a secret", "three"):
        senders.says(senders.alice, text)
    senders.removes(senders.chief, 2)
    senders.store(senders.draft(senders.chief, "announcement", "Drill at noon."))
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
