"""Every message gets one outcome, whoever sent it and on whichever Redis host its room is."""

import asyncio
from collections.abc import Callable

import pytest
from channels.db import database_sync_to_async as in_database
from channels.layers import get_channel_layer
from django.db import connection
from django.test import Client
from pytest_django import Settings
from tests.chat.process import (
    Person,
    Workers,
    enter_rooms,
    installation,
    make_rooms,
    people,
    return_connections,
    runtime,
    workers,
)
from tests.realtime.two_hosts import hosts_of, one_of_each
from tests.support.servers import RedisServer
from tests.support.waiting import until

from channelbox.accounts import revocation
from channelbox.accounts.models import User
from channelbox.chat import ingest
from channelbox.chat.cleanup import remove_batch
from channelbox.chat.ingest import INGEST_CHANNEL
from channelbox.chat.models import Event, Room
from channelbox.chat.runtime import ChatRuntime
from channelbox.realtime.envelope import IncomingEvent, RoomRef
from channelbox.work.pending_message import MAX_RECIPIENTS, PendingMessage

pytestmark = pytest.mark.django_db(transaction=True)

# For a message that nothing delays, which takes 0.1 s; behind a frozen Redis host it took 5.6 s
HEALTHY_SECONDS = 4.0


async def until_held(runtime: ChatRuntime, count: int) -> None:
    """Wait until the outbox of this process holds so many messages."""
    async with asyncio.timeout(10):
        while runtime.outbox._message_count < count:
            await asyncio.sleep(0.01)


async def test_senders_with_equal_ids_in_one_batch_get_separate_answers(
    runtime: ChatRuntime, people: list[Person]
) -> None:
    alice, bob = await enter_rooms(people, "lobby", "lobby")
    workers = Workers()
    workers.start()
    await bob.say("bob's", id="1")
    for person in (alice, bob):
        assert (await person.next("message"))["seq"] == 1
    await workers.stop()
    await alice.say("in flight, for there is no worker now", id="0")
    await until_held(runtime, 1)
    await alice.say("alice's", id="1")
    await bob.say("bob's, sent again", id="1")
    await until_held(runtime, 3)
    workers.start()
    assert [await alice.next("message", "stored", "error") for _ in range(2)] == [
        await bob.next("message") for _ in range(2)
    ]
    await alice.say("the next", id="2")
    assert (await alice.next("message", "stored", "error"))["message"] == "the next"
    await workers.stop()


async def test_a_resent_message_is_answered_by_its_event_if_still_to_come(
    runtime: ChatRuntime, people: list[Person]
) -> None:
    """Alice sends a message again that was stored through another process, before its event arrives in this one."""
    (alice,) = await enter_rooms(people, "lobby")
    await in_database(store_one)("lobby", "g:alice", "1")
    room = await in_database(Room.objects.get)(name="lobby")
    (member,) = runtime.hub.rooms["lobby"].members
    runtime.outbox.put(
        RoomRef(room.pk, "lobby"), PendingMessage(IncomingEvent("g:alice", None, "alice", "1", "message", "hi"), member)
    )
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
    """Create the user alice. Returns the key of a session of theirs."""
    client = Client()
    client.force_login(User.objects.create(username="alice"))
    return str(client.session.session_key)


@pytest.mark.parametrize("outcome", ["stored", "message", "error"])
async def test_every_connection_that_sent_a_message_in_flight_is_answered(
    runtime: ChatRuntime, people: list[Person], outcome: str
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


async def test_recipients_of_a_message_are_limited_to_open_connections(
    runtime: ChatRuntime, people: list[Person]
) -> None:
    await make_rooms("lobby")
    cookie = await in_database(session)()

    async def join_and_send() -> Person:
        person = Person("/ws/chat/lobby/", cookie=cookie)
        people.append(person)
        assert (await person.connect())["type"] == "welcome"
        await person.say("hi", id="1")
        await person.say("read", id=" ", type="unknown")
        return person

    alice = [await join_and_send() for _ in range(MAX_RECIPIENTS)]
    for person in alice:
        assert (await person.next("error"))["code"] == "invalid"
    refused = await (await join_and_send()).next("error")
    assert (refused["code"], refused["id"]) == ("too_fast", "1")
    assert refused["retry_after"] > 0
    await alice[3].leave()
    people.remove(alice.pop(3))
    assert (await (await join_and_send()).next("error"))["code"] == "invalid"


# --- Rooms that are deleted


@pytest.mark.parametrize("rows", ["kept", "removed"])
async def test_a_message_to_a_deleted_room_is_not_stored_in_a_new_one(
    runtime: ChatRuntime, people: list[Person], monkeypatch: pytest.MonkeyPatch, rows: str
) -> None:
    """Alice's process does not check the connection, which the deletion would close before the answer arrives."""
    monkeypatch.setattr(revocation, "rules", [])
    (alice,) = await enter_rooms(people, "lobby")
    await alice.say("hi", id="old")
    await until_queued(1)
    old = await in_database(Room.objects.get)()
    await in_database(old.delete)()
    if rows == "removed":
        assert await in_database(remove_batch)(1) == 1
    await make_rooms("lobby")
    (bob,) = await enter_rooms(people, "lobby")
    await bob.say("hi", id="new")
    await until_queued(2)
    workers = Workers()
    workers.start()
    refused = await alice.next("message", "stored", "error")
    assert (refused.get("code"), refused["id"]) == ("no_room", "old")
    message = await bob.next("message", "stored", "error")
    assert (message["id"], message["seq"]) == ("new", 1)
    assert await in_database(lambda: [event.client_id for event in Event.objects.all()])() == ["new"]
    await workers.stop()


async def until_queued(count: int) -> None:
    """Wait until the queue has so many entries."""
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


async def test_refusals_reach_senders_on_every_redis_host(
    two_hosts: list[RedisServer], runtime: ChatRuntime, workers: Workers, people: list[Person]
) -> None:
    names = [f"room-{n}" for n in range(40)]
    rooms = [name for host in (0, 1) for name in [name for name in names if runtime.bus.host(name) == host][:4]]
    assert len(rooms) == 8
    await make_rooms(*rooms)
    everybody = await enter_rooms(people, *rooms)
    await in_database(Room.objects.update)(closed=True)
    for person in everybody:
        await person.say("hi", id="a")
    for person in everybody:
        assert (await person.next("error", "message"))["code"] == "not_allowed"


@pytest.mark.parametrize("frozen", [0, 1])
async def test_a_frozen_redis_host_does_not_delay_rooms_of_the_other(
    frozen: int, two_hosts: list[RedisServer], runtime: ChatRuntime, workers: Workers, people: list[Person]
) -> None:
    rooms = one_of_each(runtime.bus)
    await make_rooms(*rooms)
    everybody = await enter_rooms(people, *rooms)
    stuck, healthy = everybody[frozen], everybody[1 - frozen]
    two_hosts[frozen].freeze()
    try:
        await stuck.say("hi", id="stuck")
        async with asyncio.timeout(HEALTHY_SECONDS):
            for number in range(5):
                await healthy.say("hi", id=f"well-{number}")
                assert (await healthy.next("message", "error"))["id"] == f"well-{number}"
    finally:
        two_hosts[frozen].thaw()
    assert (await stuck.next("message", "error"))["id"] == "stuck"
