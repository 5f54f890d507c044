"""Joining a room over the chat's socket: who is admitted, and which errors others get."""

import asyncio

import pytest
from channels.db import database_sync_to_async as in_database
from django.test import Client
from pytest_django import Settings
from tests.chat.process import Person, Workers, enter, installation, people, return_connections, runtime, workers

from channelbox.accounts.models import User
from channelbox.chat.models import Event, Room

pytestmark = pytest.mark.django_db(transaction=True)


async def test_guests_get_a_sign_in_error_if_guests_are_disabled(enter, settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS = False
    alice = await enter()
    assert alice.welcome["code"] == "sign_in"
    assert await alice.closed() == 4001


async def test_a_user_sends_under_their_username(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS = False
    user = await in_database(User.objects.create_user)("alice", password="long enough 1")
    client = Client()
    await in_database(client.force_login)(user)
    alice = await enter(cookie=client.cookies[settings.SESSION_COOKIE_NAME].value)
    assert (alice.welcome["you"], alice.welcome["guest"]) == ("alice", False)
    await alice.say("hi")
    assert (await alice.next("message"))["user"] == "alice"
    event = await in_database(Event.objects.get)()
    assert (event.sender, event.user_id) == (f"u:{user.pk}", user.pk)


async def test_joining_does_not_create_a_room_without_permission(enter, settings: Settings) -> None:
    settings.CHANNELBOX_ROOM_CREATION = "staff"
    alice = await enter("/ws/chat/unknown/")
    assert alice.welcome["code"] == "no_room"
    assert await alice.closed() == 4003
    assert not await in_database(Room.objects.exists)()


async def test_a_members_only_room_admits_only_members(enter, settings: Settings) -> None:
    room = await in_database(Room.objects.create)(name="lobby", members_only=True)
    user = await in_database(User.objects.create_user)("alice", password="long enough 1")
    client = Client()
    await in_database(client.force_login)(user)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    for options in ({}, {"cookie": cookie}):
        person = await enter(**options)
        assert person.welcome["code"] == "not_allowed"
        assert await person.closed() == 4003
    await in_database(room.members.add)(user)
    assert (await enter(cookie=cookie)).welcome["type"] == "welcome"


async def test_a_recreated_room_shows_nothing_of_the_deleted_one(enter, workers: Workers) -> None:
    alice = await enter()
    for text in ("1", "2", "3"):
        await alice.say(text)
        await alice.next("message")
    room = await in_database(Room.objects.get)()
    await in_database(room.delete)()
    await in_database(Room.objects.create)(name="lobby")
    # Before the old room is closed in this process.
    bob, charlie = await enter(), await enter("/ws/chat/lobby/?after=3")
    assert [(each.welcome["seq"], each.welcome["resumed"]) for each in (bob, charlie)] == [(0, False)] * 2
    await bob.say("new")
    for each in (bob, charlie):
        message = await each.next("message")
        assert (message["seq"], message["message"]) == (1, "new")
    assert await alice.closed() == 4003


async def test_renaming_a_room_closes_its_sockets_with_an_error(enter) -> None:
    alice = await enter()
    room = await in_database(Room.objects.get)()
    room.name = "hall"
    await in_database(room.save)(update_fields=["name"])
    assert (await alice.next("error"))["error"] == "This room was renamed."
    assert await alice.closed() == 4003


@pytest.mark.parametrize("origin", [None, "http://evil.example", "https://localhost", "null", "http://localhost:81"])
async def test_a_foreign_or_missing_origin_is_refused(enter, origin: str | None) -> None:
    alice = await enter(origin=origin)
    assert alice.welcome["code"] == "origin"
    assert await alice.closed() == 4003


async def test_a_missing_origin_can_be_allowed(enter, settings: Settings) -> None:
    settings.CHANNELBOX_ORIGIN_REQUIRED = False
    assert (await enter(origin=None)).welcome["type"] == "welcome"


async def test_an_unknown_socket_address_gets_an_error(enter) -> None:
    nowhere = await enter("/ws/nowhere/")
    assert nowhere.welcome["code"] == "no_room"
    assert await nowhere.closed() == 4003


async def test_a_full_room_refuses_connections_until_a_member_leaves(enter, people: list[Person]) -> None:
    await in_database(Room.objects.create)(name="lobby", limit=2)
    first, _ = await enter(), await enter()
    third = await enter()
    assert third.welcome["code"] == "room_full"
    assert await third.closed() == 4000
    await first.leave()
    people.remove(first)
    assert (await enter()).welcome["type"] == "welcome"


async def test_a_join_that_misses_its_deadline_gets_try_later(
    enter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("channelbox.chat.permissions.enter", hang)
    monkeypatch.setattr("channelbox.realtime.join_deadline.ENTER_SECONDS", 0.2)
    alice = await enter()
    assert alice.welcome["code"] == "try_later"
    assert await alice.closed() == 1013
    assert "Traceback" not in caplog.text


async def test_authentication_and_join_share_one_deadline(enter, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    began, deadlines = loop.time(), []
    timeout_at = asyncio.timeout_at

    def recording_timeout_at(when: float | None) -> asyncio.Timeout:
        deadlines.append(when)
        return timeout_at(when)

    class SlowLoader:
        async def get(self, key: str) -> None:
            while loop.time() <= began:
                await asyncio.sleep(0.001)

    monkeypatch.setattr("channelbox.accounts.socket_auth._loader", SlowLoader)
    monkeypatch.setattr(asyncio, "timeout_at", recording_timeout_at)
    assert (await enter(cookie="abc123")).welcome["type"] == "welcome"
    assert len(deadlines) == 2
    assert len(set(deadlines)) == 1
