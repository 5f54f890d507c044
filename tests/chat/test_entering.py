"""Who may enter a room by the chat's socket, and what the others are told."""

import asyncio

import pytest
from channels.db import database_sync_to_async as in_database
from django.test import Client
from pytest_django import Settings
from tests.chat.process import Person, Workers, connections_go_back, enter, installation, people, runtime, workers

from channelbox.accounts.models import User
from channelbox.chat.models import Event, Room

pytestmark = pytest.mark.django_db(transaction=True)


async def test_guests_are_told_to_sign_in_where_they_may_not_talk(enter, settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS = False
    alice = await enter()
    assert alice.welcome["code"] == "sign_in"
    assert await alice.closed() == 4001


async def test_a_user_talks_under_the_own_name(enter, workers: Workers, settings: Settings) -> None:
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


async def test_a_room_that_may_not_be_made_is_refused(enter, settings: Settings) -> None:
    settings.CHANNELBOX_ROOM_CREATION = "staff"
    alice = await enter("/ws/chat/unknown/")
    assert alice.welcome["code"] == "no_room"
    assert await alice.closed() == 4003
    assert not await in_database(Room.objects.exists)()


async def test_a_room_for_members_admits_only_them(enter, settings: Settings) -> None:
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


async def test_a_room_that_was_removed_and_made_anew_shows_nothing_of_the_old_one(enter, workers: Workers) -> None:
    alice = await enter()
    for text in ("1", "2", "3"):
        await alice.say(text)
        await alice.next("message")
    room = await in_database(Room.objects.get)()
    await in_database(room.delete)()
    await in_database(Room.objects.create)(name="lobby")
    bob, cid = await enter(), await enter("/ws/chat/lobby/?after=3")  # before the old room is closed in this process
    assert [(each.welcome["seq"], each.welcome["resumed"]) for each in (bob, cid)] == [(0, False)] * 2
    await bob.say("new")
    for each in (bob, cid):
        message = await each.next("message")
        assert (message["seq"], message["message"]) == (1, "new")
    assert await alice.closed() == 4003


async def test_who_is_in_a_room_that_gets_another_name_is_told(enter) -> None:
    alice = await enter()
    room = await in_database(Room.objects.get)()
    room.name = "hall"
    await in_database(room.save)(update_fields=["name"])
    assert (await alice.next("error"))["error"] == "This room was renamed."
    assert await alice.closed() == 4003


@pytest.mark.parametrize("origin", [None, "http://evil.example", "https://localhost", "null", "http://localhost:81"])
async def test_another_origin_or_none_is_refused(enter, origin: str | None) -> None:
    alice = await enter(origin=origin)
    assert alice.welcome["code"] == "origin"
    assert await alice.closed() == 4003


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


async def test_who_cannot_be_let_in_in_time_is_told_to_try_later(
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


async def test_looking_up_and_entering_have_one_deadline_together(enter, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    began, deadlines = loop.time(), []
    timeout_at = asyncio.timeout_at

    def noted(when: float | None) -> asyncio.Timeout:
        deadlines.append(when)
        return timeout_at(when)

    class SlowLoader:
        async def get(self, key: str) -> None:
            while loop.time() <= began:
                await asyncio.sleep(0.001)

    monkeypatch.setattr("channelbox.accounts.socket_auth._loader", SlowLoader)
    monkeypatch.setattr(asyncio, "timeout_at", noted)
    assert (await enter(cookie="abc123")).welcome["type"] == "welcome"
    assert len(deadlines) == 2
    assert len(set(deadlines)) == 1
