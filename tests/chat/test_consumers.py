"""The chat's socket, through the whole ASGI application, a real Redis and the database."""

import asyncio
import json
import time
from typing import Any

import pytest
from channels.db import database_sync_to_async as in_database
from pytest_django import Settings
from redis.exceptions import RedisError
from tests.chat.process import Person, Workers, enter, installation, people, return_connections, runtime, workers

from channelbox.chat.models import Event, Room
from channelbox.chat.runtime import ChatRuntime
from channelbox.realtime import consumer
from channelbox.realtime.counters import counters
from channelbox.realtime.errors import INVALID_FORMAT

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_message_reaches_every_member_and_is_stored(enter, workers: Workers) -> None:
    alice, bob = await enter(), await enter()
    await alice.say("hi")
    received = [await person.next("message") for person in (alice, bob)]
    assert received[0] == received[1]
    assert (received[0]["seq"], received[0]["message"], received[0]["user"]) == (1, "hi", alice.welcome["you"])
    assert await in_database(Event.objects.get)(seq=1)


async def test_messages_stay_in_their_room(enter, workers: Workers) -> None:
    alice, bob = await enter("/ws/chat/one/"), await enter("/ws/chat/two/")
    await alice.say("for one")
    await alice.next("message")
    await bob.say("for two")
    assert (await bob.next("message"))["message"] == "for two"


async def test_a_message_comes_back_with_its_id(enter, workers: Workers) -> None:
    alice = await enter()
    await alice.say("hi", id="my-id")
    assert (await alice.next("message"))["id"] == "my-id"


async def test_a_message_sent_again_is_answered_and_stored_once(enter, workers: Workers) -> None:
    alice = await enter()
    await alice.say("hi", id="a")
    await alice.next("message")
    await alice.say("hi", id="a")
    assert await alice.next("stored", "message") == {"type": "stored", "id": "a", "seq": 1}
    assert await in_database(Event.objects.count)() == 1


async def test_messages_of_a_sender_keep_their_order(enter, workers: Workers) -> None:
    alice, bob = await enter(), await enter()
    for number in range(50):
        await alice.say(str(number))
    received = [await bob.next("message") for _ in range(50)]
    assert [(m["seq"], m["message"]) for m in received] == [(n + 1, str(n)) for n in range(50)]


async def test_a_new_client_gets_the_latest_messages(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_HISTORY = 2
    alice = await enter()
    for text in ("1", "2", "3"):
        await alice.say(text)
        await alice.next("message")
    bob = await enter()
    assert bob.welcome["seq"] == 3
    assert [(await bob.next("message"))["message"] for _ in range(2)] == ["2", "3"]


async def test_a_returning_client_gets_the_missed_messages(enter, workers: Workers) -> None:
    alice = await enter()
    for text in ("1", "2", "3"):
        await alice.say(text)
        await alice.next("message")
    bob = await enter("/ws/chat/lobby/?after=1")
    assert bob.welcome["resumed"] is True
    assert [(await bob.next("message"))["seq"] for _ in range(2)] == [2, 3]


async def test_a_client_that_missed_too_much_gets_a_gap(enter, workers: Workers, settings: Settings) -> None:
    room = await in_database(Room.objects.create)(name="lobby", last_seq=2000)
    now = room.created_at
    events = [
        Event(room=room, seq=n, sender="g:x", client_id=str(n), name="x", text="x", at=now) for n in range(1, 2001)
    ]
    await in_database(Event.objects.bulk_create)(events)
    bob = await enter("/ws/chat/lobby/?after=5")
    assert bob.welcome["resumed"] is False
    assert await bob.next("gap") == {"type": "gap", "from": 6, "to": 1950}
    assert (await bob.next("message"))["seq"] == 1951


async def test_invalid_frames_get_errors_and_the_connection_stays_open(enter, workers: Workers) -> None:
    alice = await enter()
    for text in (
        "no json",
        "[]",
        '"x"',
        "{}",
        '{"message": 5}',
        '{"message": null}',
        '{"type": "unheard-of"}',
        "[" * 9000,
    ):
        await alice.socket.send_to(text_data=text)
        error = await alice.next("error")
        assert (error["error"], error["code"]) == (INVALID_FORMAT, "invalid")
    for content, code in (
        ({"message": " \n"}, "empty"),
        ({"message": "x" * 4001}, "too_long"),
        ({"message": "\0" * 4001}, "too_long"),
        ({"message": "a\x00b"}, "invalid"),
        ({"message": "\ud800"}, "invalid"),
        ({"message": "x", "id": ""}, "bad_id"),
        ({"message": "x", "id": "x" * 65}, "bad_id"),
        ({"message": "x", "id": 5}, "bad_id"),
        ({"message": "x", "id": "a\nb"}, "bad_id"),
    ):
        await alice.socket.send_to(text_data=json.dumps(content))
        assert (await alice.next("error"))["code"] == code
    await alice.say("still here")
    assert (await alice.next("message"))["message"] == "still here"


async def test_an_error_contains_the_id_of_its_message(enter) -> None:
    alice = await enter()
    await alice.say("", id="mine")
    assert (await alice.next("error"))["id"] == "mine"


async def test_a_binary_frame_closes_the_connection_with_1003(enter) -> None:
    alice = await enter()
    await alice.socket.send_to(bytes_data=b"hi")
    assert await alice.closed() == 1003


async def test_presence_follows_members_who_join_and_leave(enter, people: list[Person]) -> None:
    alice = await enter()
    bob = await enter()
    names = sorted([alice.welcome["you"], bob.welcome["you"]])
    while (presence := await alice.next("presence"))["count"] != 2:
        pass
    assert presence["users"] == names
    await bob.leave()
    people.remove(bob)
    while (presence := await alice.next("presence"))["count"] != 1:
        pass
    assert presence["users"] == [alice.welcome["you"]]


async def test_typing_is_sent_to_other_members(enter) -> None:
    alice, bob = await enter(), await enter()
    await alice.socket.send_to(text_data='{"type": "typing"}')
    assert (await bob.next("typing"))["user"] == alice.welcome["you"]


async def test_the_connection_counter_follows_connects_and_disconnects(enter, people: list[Person]) -> None:
    before = counters.connections
    alice = await enter()
    assert counters.connections == before + 1
    await alice.leave()
    people.remove(alice)
    assert counters.connections == before


async def test_messages_wait_unacknowledged_until_a_worker_starts(
    enter, runtime: ChatRuntime, settings: Settings
) -> None:
    alice = await enter()
    await alice.say("patience", id="a")
    assert await alice.socket.receive_nothing(timeout=1.5) or (await alice.next("presence"))
    assert not await in_database(Event.objects.exists)()
    workers = Workers()
    workers.start()
    assert (await alice.next("message"))["id"] == "a"
    await workers.stop()


async def test_a_full_outbox_error_contains_the_id_of_the_message(enter, runtime: ChatRuntime) -> None:
    runtime.outbox._host_senders[0].throughput.max_messages = 2
    alice = await enter()
    for number in range(3):
        await alice.say("hi", id=str(number))
    error = await alice.next("error")
    assert (error["code"], error["id"]) == ("queue_full", "2")


async def test_a_sender_is_read_later_after_a_full_outbox_error(
    enter, runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "FULL_PAUSE_SECONDS", 0.5)
    runtime.outbox._host_senders[0].throughput.max_messages = 0
    alice = await enter()
    started = time.monotonic()
    await alice.say("hi")
    await alice.socket.send_to(text_data='{"type": "ping"}')
    assert (await alice.next("error"))["code"] == "queue_full"
    await alice.next("pong")
    assert time.monotonic() - started >= 0.5


async def test_a_worker_that_dies_after_its_commit_loses_no_message(
    enter, runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored but not published: the outbox sends the batch again, and the hub reads what its members lack."""
    from channelbox.chat import ingest

    monkeypatch.setattr(runtime.outbox._layer, "expiry", 0.2)
    alice, bob = await enter(), await enter()

    async def failing_publish(*args: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ingest.Bus, "publish_many", failing_publish)
        workers = Workers()
        workers.start()
        await alice.say("hi", id="a")
        async with asyncio.timeout(10):
            while not await in_database(Event.objects.exists)():
                await asyncio.sleep(0.01)
    assert (await alice.next("stored", "message"))["seq"] == 1
    assert (await bob.next("message"))["id"] == "a"
    assert await in_database(Event.objects.count)() == 1
    await workers.stop()


async def test_a_client_lost_while_joining_does_not_stay_a_member(
    runtime: ChatRuntime, enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = runtime.hub.join

    async def join_after_loss(name: str, identity: Any, member: Any, *more: Any) -> Any:
        member.on_lost()
        return await join(name, identity, member, *more)

    monkeypatch.setattr(runtime.hub, "join", join_after_loss)
    await enter()
    assert runtime.hub.rooms["lobby"].members == set()


async def test_typing_during_a_redis_outage_closes_no_connection(
    runtime: ChatRuntime, enter, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing_publish(channel: str, payload: bytes) -> None:
        raise RedisError("away")

    alice = await enter()
    with monkeypatch.context() as patch:
        patch.setattr(runtime.bus, "publish", failing_publish)
        await alice.socket.send_to(text_data=json.dumps({"type": "typing"}))
        await alice.socket.send_to(text_data=json.dumps({"type": "ping"}))
        assert (await alice.next("pong", "error"))["type"] == "pong"
