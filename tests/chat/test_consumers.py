"""People in a room: the chat's socket through the whole ASGI application, real Redis and the database."""

import asyncio
import json
import time
from typing import Any

import pytest
from channels.db import database_sync_to_async as in_database
from pytest_django import Settings
from redis.exceptions import RedisError
from tests.chat.process import Person, Workers, connections_go_back, enter, installation, people, runtime, workers

from channelbox.chat.models import Event, Room
from channelbox.chat.runtime import ChatRuntime
from channelbox.realtime import consumer
from channelbox.realtime.counters import counters
from channelbox.realtime.errors import INVALID_FORMAT

pytestmark = pytest.mark.django_db(transaction=True)


async def test_it_works(enter, workers: Workers) -> None:
    alice, bob = await enter(), await enter()
    await alice.say("hi")
    heard = [await person.next("message") for person in (alice, bob)]
    assert heard[0] == heard[1]
    assert (heard[0]["seq"], heard[0]["message"], heard[0]["user"]) == (1, "hi", alice.welcome["you"])
    assert await in_database(Event.objects.get)(seq=1)


async def test_rooms_do_not_hear_each_other(enter, workers: Workers) -> None:
    alice, bob = await enter("/ws/chat/one/"), await enter("/ws/chat/two/")
    await alice.say("for one")
    await alice.next("message")
    await bob.say("for two")
    assert (await bob.next("message"))["message"] == "for two"


async def test_a_message_comes_back_with_the_id_that_it_was_sent_with(enter, workers: Workers) -> None:
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


async def test_each_senders_order_holds(enter, workers: Workers) -> None:
    alice, bob = await enter(), await enter()
    for number in range(50):
        await alice.say(str(number))
    heard = [await bob.next("message") for _ in range(50)]
    assert [(m["seq"], m["message"]) for m in heard] == [(n + 1, str(n)) for n in range(50)]


async def test_history_comes_on_joining(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_HISTORY = 2
    alice = await enter()
    for text in ("1", "2", "3"):
        await alice.say(text)
        await alice.next("message")
    bob = await enter()
    assert bob.welcome["seq"] == 3
    assert [(await bob.next("message"))["message"] for _ in range(2)] == ["2", "3"]


async def test_what_was_missed_comes_after_a_reconnect(enter, workers: Workers) -> None:
    alice = await enter()
    for text in ("1", "2", "3"):
        await alice.say(text)
        await alice.next("message")
    bob = await enter("/ws/chat/lobby/?after=1")
    assert bob.welcome["resumed"] is True
    assert [(await bob.next("message"))["seq"] for _ in range(2)] == [2, 3]


async def test_too_far_back_is_told_as_a_gap(enter, workers: Workers, settings: Settings) -> None:
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


async def test_bad_input_is_answered_and_the_socket_goes_on(enter, workers: Workers) -> None:
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


async def test_an_error_names_the_id_of_its_message(enter) -> None:
    alice = await enter()
    await alice.say("", id="mine")
    assert (await alice.next("error"))["id"] == "mine"


async def test_a_binary_frame_closes_with_1003(enter) -> None:
    alice = await enter()
    await alice.socket.send_to(bytes_data=b"hi")
    assert await alice.closed() == 1003


async def test_who_is_here_is_told_and_who_left_is_gone(enter, people: list[Person]) -> None:
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


async def test_typing_is_told(enter) -> None:
    alice, bob = await enter(), await enter()
    await alice.socket.send_to(text_data='{"type": "typing"}')
    assert (await bob.next("typing"))["user"] == alice.welcome["you"]


async def test_connections_are_counted_and_counted_off(enter, people: list[Person]) -> None:
    before = counters.connections
    alice = await enter()
    assert counters.connections == before + 1
    await alice.leave()
    people.remove(alice)
    assert counters.connections == before


async def test_nothing_is_acknowledged_without_a_worker_and_nothing_is_lost(
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


async def test_a_full_outbox_is_told_with_the_id(enter, runtime: ChatRuntime) -> None:
    runtime.outbox._host_senders[0].throughput.max_messages = 2
    alice = await enter()
    for number in range(3):
        await alice.say("hi", id=str(number))
    error = await alice.next("error")
    assert (error["code"], error["id"]) == ("queue_full", "2")


async def test_who_sends_into_a_full_outbox_is_read_later(
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


async def test_a_worker_that_dies_after_the_commit_is_made_good(
    enter, runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored but never told: the outbox asks again, and the members read what they lack."""
    from channelbox.chat import ingest

    monkeypatch.setattr(runtime.outbox._layer, "expiry", 0.2)
    alice, bob = await enter(), await enter()

    async def silent(*args: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ingest.Bus, "publish_many", silent)
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


async def test_a_client_that_is_lost_while_it_joins_does_not_stay_in_the_room(
    runtime: ChatRuntime, enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = runtime.hub.join

    async def lost_on_the_way(name: str, identity: Any, member: Any, *more: Any) -> Any:
        member.on_lost()
        return await join(name, identity, member, *more)

    monkeypatch.setattr(runtime.hub, "join", lost_on_the_way)
    await enter()
    assert runtime.hub.rooms["lobby"].members == set()


async def test_typing_while_redis_is_away_ends_no_connection(
    runtime: ChatRuntime, enter, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(channel: str, payload: bytes) -> None:
        raise RedisError("away")

    alice = await enter()
    with monkeypatch.context() as patch:
        patch.setattr(runtime.bus, "publish", away)
        await alice.socket.send_to(text_data=json.dumps({"type": "typing"}))
        await alice.socket.send_to(text_data=json.dumps({"type": "ping"}))
        assert (await alice.next("pong", "error"))["type"] == "pong"
