"""The chat's socket through the whole ASGI application, real Redis and the database."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.db import database_sync_to_async as in_database
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.db import close_old_connections
from django.test import Client
from pytest_django import Settings
from redis.exceptions import RedisError
from tests.chat.process import Workers, live, workers  # noqa: F401 - fixtures

from channelbox.accounts.models import User
from channelbox.asgi import application
from channelbox.chat.live import Live
from channelbox.chat.models import Event, Room
from channelbox.realtime.codes import INVALID_FORMAT
from channelbox.realtime.counters import counters

pytestmark = pytest.mark.django_db(transaction=True)

ORIGIN = "http://localhost"


@pytest.fixture(autouse=True)
def connections_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels' communicator keeps database connections open, for tests inside one transaction: it empties the pool."""
    monkeypatch.setattr("channels.testing.application.no_op", close_old_connections)


@pytest.fixture(autouse=True)
def installation(settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS = True
    settings.CHANNELBOX_ROOM_CREATION = "anyone"
    settings.CHANNELBOX_ORIGINS = [ORIGIN]


class Person:
    """A client as simple as the tutorial's."""

    def __init__(self, path: str, origin: str | None = ORIGIN, cookie: str = "") -> None:
        headers = [(b"origin", origin.encode())] if origin else []
        if cookie:
            headers.append((b"cookie", f"{django_settings.SESSION_COOKIE_NAME}={cookie}".encode()))
        self.socket = WebsocketCommunicator(application, path, headers=headers)
        self.welcome: dict[str, Any] = {}

    async def connect(self) -> dict[str, Any]:
        """The welcome, or the error that comes in its place."""
        connected, _ = await self.socket.connect(timeout=10)
        assert connected
        self.welcome = await self.next("welcome", "error")
        return self.welcome

    async def say(self, message: object, **more: object) -> None:
        await self.socket.send_to(text_data=json.dumps({"message": message, **more}))

    async def next(self, *kinds: str) -> dict[str, Any]:
        """The next frame of one of these kinds."""
        while True:
            frame = json.loads(await self.socket.receive_from(timeout=10))
            if frame.get("type", "error") in kinds:
                return frame

    async def closed(self) -> int:
        while True:
            message = await self.socket.receive_output(timeout=10)
            if message["type"] == "websocket.close":
                return message["code"]

    async def leave(self) -> None:
        await self.socket.disconnect(timeout=10)


@pytest.fixture
async def people(live: Live) -> AsyncIterator[list[Person]]:
    people: list[Person] = []
    yield people
    for person in people:
        await person.leave()


@pytest.fixture
def enter(people: list[Person]):
    async def enter(path: str = "/ws/chat/lobby/", **options: Any) -> Person:
        person = Person(path, **options)
        people.append(person)
        await person.connect()
        return person

    return enter


async def test_it_works(enter, workers: Workers) -> None:
    ann, bob = await enter(), await enter()
    await ann.say("hi")
    heard = [await person.next("message") for person in (ann, bob)]
    assert heard[0] == heard[1]
    assert (heard[0]["seq"], heard[0]["message"], heard[0]["user"]) == (1, "hi", ann.welcome["you"])
    assert await in_database(Event.objects.get)(seq=1)


async def test_rooms_do_not_hear_each_other(enter, workers: Workers) -> None:
    ann, bob = await enter("/ws/chat/one/"), await enter("/ws/chat/two/")
    await ann.say("for one")
    await ann.next("message")
    await bob.say("for two")
    assert (await bob.next("message"))["message"] == "for two"


async def test_a_message_comes_back_with_the_id_that_it_was_sent_with(enter, workers: Workers) -> None:
    ann = await enter()
    await ann.say("hi", id="my-id")
    assert (await ann.next("message"))["id"] == "my-id"


async def test_a_message_sent_again_is_answered_and_stored_once(enter, workers: Workers) -> None:
    ann = await enter()
    await ann.say("hi", id="a")
    await ann.next("message")
    await ann.say("hi", id="a")
    assert await ann.next("stored", "message") == {"type": "stored", "id": "a", "seq": 1}
    assert await in_database(Event.objects.count)() == 1


async def test_each_senders_order_holds(enter, workers: Workers) -> None:
    ann, bob = await enter(), await enter()
    for number in range(50):
        await ann.say(str(number))
    heard = [await bob.next("message") for _ in range(50)]
    assert [(m["seq"], m["message"]) for m in heard] == [(n + 1, str(n)) for n in range(50)]


async def test_history_comes_on_joining(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_HISTORY = 2
    ann = await enter()
    for text in ("1", "2", "3"):
        await ann.say(text)
        await ann.next("message")
    bob = await enter()
    assert bob.welcome["seq"] == 3
    assert [(await bob.next("message"))["message"] for _ in range(2)] == ["2", "3"]


async def test_what_was_missed_comes_after_a_reconnect(enter, workers: Workers) -> None:
    ann = await enter()
    for text in ("1", "2", "3"):
        await ann.say(text)
        await ann.next("message")
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
    ann = await enter()
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
        await ann.socket.send_to(text_data=text)
        error = await ann.next("error")
        assert (error["error"], error["code"]) == (INVALID_FORMAT, "invalid")
    for content, code in (
        ({"message": " \n"}, "empty"),
        ({"message": "x" * 4001}, "too_long"),
        ({"message": "a\x00b"}, "invalid"),
        ({"message": "\ud800"}, "invalid"),
        ({"message": "x", "id": ""}, "bad_id"),
        ({"message": "x", "id": "x" * 65}, "bad_id"),
        ({"message": "x", "id": 5}, "bad_id"),
        ({"message": "x", "id": "a\nb"}, "bad_id"),
    ):
        await ann.socket.send_to(text_data=json.dumps(content))
        assert (await ann.next("error"))["code"] == code
    await ann.say("still here")
    assert (await ann.next("message"))["message"] == "still here"


async def test_an_error_names_the_id_of_its_message(enter) -> None:
    ann = await enter()
    await ann.say("", id="mine")
    assert (await ann.next("error"))["id"] == "mine"


async def test_a_binary_frame_closes_with_1003(enter) -> None:
    ann = await enter()
    await ann.socket.send_to(bytes_data=b"hi")
    assert await ann.closed() == 1003


async def test_too_fast_is_told_with_the_time_to_wait(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST = 1, 2
    ann = await enter()
    for number in range(3):
        await ann.say("hi", id=str(number))
    error = await ann.next("error")
    assert (error["code"], error["id"]) == ("too_fast", "2")
    assert 0 < error["retry_after"] <= 1


async def test_who_does_not_heed_is_closed_with_4008(enter, settings: Settings) -> None:
    ann = await enter()
    for _ in range(300):
        await ann.socket.send_to(text_data="nonsense")
    assert await ann.closed() == 4008


async def test_guests_are_told_to_sign_in_where_they_may_not_talk(enter, settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS = False
    ann = await enter()
    assert ann.welcome["code"] == "sign_in"
    assert await ann.closed() == 4001


async def test_a_user_talks_under_the_own_name(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS = False
    user = await in_database(User.objects.create_user)("ann", password="long enough 1")
    client = Client()
    await in_database(client.force_login)(user)
    ann = await enter(cookie=client.cookies[settings.SESSION_COOKIE_NAME].value)
    assert (ann.welcome["you"], ann.welcome["guest"]) == ("ann", False)
    await ann.say("hi")
    assert (await ann.next("message"))["user"] == "ann"
    event = await in_database(Event.objects.get)()
    assert (event.sender, event.user_id) == (f"u:{user.pk}", user.pk)


async def test_a_room_that_may_not_be_made_is_refused(enter, settings: Settings) -> None:
    settings.CHANNELBOX_ROOM_CREATION = "staff"
    ann = await enter("/ws/chat/unknown/")
    assert ann.welcome["code"] == "no_room"
    assert await ann.closed() == 4003
    assert not await in_database(Room.objects.exists)()


async def test_a_room_for_members_admits_only_them(enter, settings: Settings) -> None:
    room = await in_database(Room.objects.create)(name="lobby", members_only=True)
    user = await in_database(User.objects.create_user)("ann", password="long enough 1")
    client = Client()
    await in_database(client.force_login)(user)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    for options in ({}, {"cookie": cookie}):
        person = await enter(**options)
        assert person.welcome["code"] == "not_allowed"
        assert await person.closed() == 4003
    await in_database(room.members.add)(user)
    assert (await enter(cookie=cookie)).welcome["type"] == "welcome"


@pytest.mark.parametrize("origin", [None, "http://evil.example", "https://localhost", "null", "http://localhost:81"])
async def test_another_origin_or_none_is_refused(enter, origin: str | None) -> None:
    ann = await enter(origin=origin)
    assert ann.welcome["code"] == "origin"
    assert await ann.closed() == 4003


async def test_no_origin_may_be_allowed(enter, settings: Settings) -> None:
    settings.CHANNELBOX_ORIGIN_REQUIRED = False
    assert (await enter(origin=None)).welcome["type"] == "welcome"


async def test_an_address_without_a_socket_is_told(enter) -> None:
    nowhere = await enter("/ws/nowhere/")
    assert nowhere.welcome["code"] == "no_room"
    assert await nowhere.closed() == 4003


async def test_a_full_room_closes_with_4000_until_somebody_leaves(enter, people: list[Person]) -> None:
    await in_database(Room.objects.create)(name="lobby", limit=2)
    first, _ = await enter(), await enter()
    third = await enter()
    assert third.welcome["code"] == "room_full"
    assert await third.closed() == 4000
    await first.leave()
    people.remove(first)
    assert (await enter()).welcome["type"] == "welcome"


async def test_who_is_here_is_told_and_who_left_is_gone(enter, people: list[Person]) -> None:
    ann = await enter()
    bob = await enter()
    names = sorted([ann.welcome["you"], bob.welcome["you"]])
    while (presence := await ann.next("presence"))["count"] != 2:
        pass
    assert presence["users"] == names
    await bob.leave()
    people.remove(bob)
    while (presence := await ann.next("presence"))["count"] != 1:
        pass
    assert presence["users"] == [ann.welcome["you"]]


async def test_typing_is_told(enter) -> None:
    ann, bob = await enter(), await enter()
    await ann.socket.send_to(text_data='{"type": "typing"}')
    assert (await bob.next("typing"))["user"] == ann.welcome["you"]


async def test_connections_are_counted_and_counted_off(enter, people: list[Person]) -> None:
    before = counters.connections
    ann = await enter()
    assert counters.connections == before + 1
    await ann.leave()
    people.remove(ann)
    assert counters.connections == before


async def test_nothing_is_acknowledged_without_a_worker_and_nothing_is_lost(
    enter, live: Live, settings: Settings
) -> None:
    ann = await enter()
    await ann.say("patience", id="a")
    assert await ann.socket.receive_nothing(timeout=1.5) or (await ann.next("presence"))
    assert not await in_database(Event.objects.exists)()
    workers = Workers()
    workers.start()
    assert (await ann.next("message"))["id"] == "a"
    await workers.stop()


async def test_a_full_outbox_is_told_with_the_id(enter, live: Live) -> None:
    live.outbox._most = 2
    ann = await enter()
    for number in range(3):
        await ann.say("hi", id=str(number))
    error = await ann.next("error")
    assert (error["code"], error["id"]) == ("queue_full", "2")


async def test_a_worker_that_dies_after_the_commit_is_made_good(
    enter, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored but never told: the outbox asks again, and the members read what they lack."""
    from channelbox.chat import ingest

    monkeypatch.setattr(live.outbox._layer, "expiry", 0.2)
    ann, bob = await enter(), await enter()

    async def silent(*args: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ingest.Bus, "publish_many", silent)
        workers = Workers()
        workers.start()
        await ann.say("hi", id="a")
        async with asyncio.timeout(10):
            while not await in_database(Event.objects.exists)():
                await asyncio.sleep(0.01)
    assert (await ann.next("stored", "message"))["seq"] == 1
    assert (await bob.next("message"))["id"] == "a"
    assert await in_database(Event.objects.count)() == 1
    await workers.stop()


async def test_a_client_that_is_lost_while_it_joins_does_not_stay_in_the_room(
    live: Live, enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = live.hub.join

    async def lost_on_the_way(name: str, member: Any, *more: Any) -> Any:
        member.on_lost()
        return await join(name, member, *more)

    monkeypatch.setattr(live.hub, "join", lost_on_the_way)
    await enter()
    assert live.hub.rooms["lobby"].members == set()


async def test_typing_while_redis_is_away_ends_no_connection(
    live: Live, enter, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(channel: str, payload: bytes) -> None:
        raise RedisError("away")

    ann = await enter()
    with monkeypatch.context() as patch:
        patch.setattr(live.bus, "publish", away)
        await ann.socket.send_to(text_data=json.dumps({"type": "typing"}))
        await ann.socket.send_to(text_data=json.dumps({"type": "ping"}))
        assert (await ann.next("pong", "error"))["type"] == "pong"
