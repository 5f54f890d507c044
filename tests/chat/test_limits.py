"""Rate limits and connection limits of a person and of an address, through the whole ASGI application."""

import asyncio
import threading
import time
from collections.abc import Iterable

import pytest
from channels.db import database_sync_to_async as in_database
from django.test import Client
from pytest_django import Settings
from tests.chat.process import Person, Workers, enter, installation, people, return_connections, runtime, workers
from tests.support.clock import clock_of
from tests.support.waiting import until

from channelbox.accounts.models import User
from channelbox.chat import permissions
from channelbox.chat.models import Room, retire_names
from channelbox.chat.runtime import ChatRuntime
from channelbox.realtime import token_bucket
from channelbox.realtime.admission import Source
from channelbox.realtime.errors import Close, Code, Refused

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_too_fast_error_contains_the_time_to_wait(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST = 1, 2
    alice = await enter()
    for number in range(4):  # two, and one that may arrive late
        await alice.say("hi", id=str(number))
    error = await alice.next("error")
    assert (error["code"], error["id"]) == ("too_fast", "3")
    assert 0 < error["retry_after"] <= 1


@pytest.mark.parametrize(
    ("setting", "words"), [("PERSON", "over all your connections"), ("ADDRESS", "from your address")]
)
async def test_send_rates_of_a_person_and_an_address_span_connections(
    enter, workers: Workers, settings: Settings, setting: str, words: str
) -> None:
    """Each of two connections may send a burst of three, but not both together."""
    settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST = 0.1, 3
    settings.CHANNELBOX_RATE_PERSON = settings.CHANNELBOX_RATE_ADDRESS = 100
    setattr(settings, f"CHANNELBOX_RATE_{setting}", 0.1)
    client = Client()
    user = await in_database(User.objects.create)(username="alice")
    await in_database(client.force_login)(user)
    cookie = {"cookie": client.cookies[settings.SESSION_COOKIE_NAME].value}
    # Guests without a session are different persons at one address.
    first, second = [await enter(**(cookie if setting == "PERSON" else {})) for _ in range(2)]
    for number in range(3):
        await first.say("hi", id=str(number))
        await first.next("message")
    await second.say("hi", id="too much")
    error = await second.next("error")
    assert (error["code"], error["id"]) == ("too_fast", "too much")
    assert words in error["error"]
    assert 0 < error["retry_after"] <= 10


async def test_guests_do_not_use_the_rate_of_users_at_their_address(
    enter, workers: Workers, settings: Settings
) -> None:
    settings.CHANNELBOX_RATE_ADDRESS = 0.1  # one message at once
    guest, other_guest, alice = await enter(), await enter(), await enter(cookie=(await signed_in(settings))["cookie"])
    await guest.say("hi")
    await other_guest.say("hi")
    error = await other_guest.next("error")
    assert (error["code"], "from your address" in error["error"]) == ("too_fast", True)
    await alice.say("hi", id="alice's")
    while (received := await alice.next("message", "error"))["id"] != "alice's":
        pass
    assert received.get("message") == "hi"


@pytest.mark.parametrize(("setting", "words"), [("PERSON", "2 of yours"), ("ADDRESS", "2 from your address")])
async def test_connections_over_the_person_or_address_limit_get_4008(
    enter, settings: Settings, setting: str, words: str
) -> None:
    setattr(settings, f"CHANNELBOX_SOCKETS_{setting}", 2)
    client = Client()
    user = await in_database(User.objects.create)(username="alice")
    await in_database(client.force_login)(user)
    cookie = {"cookie": client.cookies[settings.SESSION_COOKIE_NAME].value} if setting == "PERSON" else {}
    first, _ = [await enter(**cookie) for _ in range(2)]
    third = await enter(**cookie)
    assert third.welcome["code"] == "too_many"
    assert words in third.welcome["error"]
    assert await third.closed() == 4008
    await first.leave()
    assert (await enter(**cookie)).welcome["type"] == "welcome"


async def test_guests_leave_connections_of_their_address_to_users(enter, settings: Settings) -> None:
    settings.CHANNELBOX_SOCKETS_GUESTS = 2
    first, _ = await enter(), await enter("/ws/dashboard/")
    for path in ("/ws/chat/lobby/", "/ws/dashboard/"):
        refused = await enter(path)
        assert (refused.welcome["code"], await refused.closed()) == ("too_many", 4008)
        assert "2 by guests from your address" in refused.welcome["error"]
    assert (await enter(**await signed_in(settings))).welcome["type"] == "welcome"
    await first.leave()
    assert (await enter()).welcome["type"] == "welcome"


async def test_guests_leave_slots_in_a_room_to_users(enter, settings: Settings) -> None:
    settings.CHANNELBOX_ROOM_GUESTS = 50
    await in_database(Room.objects.create)(name="lobby", limit=4)
    joined = await asyncio.gather(*(enter() for _ in range(4)))
    assert sorted(person.welcome.get("code", "welcome") for person in joined) == ["room_full"] * 2 + ["welcome"] * 2
    cookie = await signed_in(settings)
    assert [(await enter(**cookie)).welcome["type"] for _ in range(2)] == ["welcome"] * 2
    full = await enter(**cookie)
    assert (full.welcome["code"], await full.closed()) == ("room_full", 4000)


async def test_dashboard_connections_count_for_the_connection_limit(enter, settings: Settings) -> None:
    settings.CHANNELBOX_SOCKETS_ADDRESS = 2
    await enter()
    dashboard = await enter("/ws/dashboard/")
    assert dashboard.welcome["type"] == "welcome"
    refused = await enter("/ws/dashboard/")
    assert refused.welcome["code"] == "too_many"
    assert await refused.closed() == 4008
    await dashboard.leave()
    assert (await enter("/ws/dashboard/")).welcome["type"] == "welcome"


async def test_frames_that_are_never_refused_are_rate_limited_too(enter, settings: Settings) -> None:
    settings.CHANNELBOX_RATE = settings.CHANNELBOX_RATE_BURST = 2
    settings.CHANNELBOX_RATE_PERSON = 2  # frames: ten a second, ten at once
    alice = await enter()
    started = time.monotonic()
    for _ in range(20):
        await alice.socket.send_to(text_data='{"type": "ping"}')
    for _ in range(20):
        await alice.next("pong")
    assert time.monotonic() - started >= 0.9  # ten of them had to wait a second, less the clock's error


async def test_a_client_that_ignores_errors_is_closed_with_4008(enter, settings: Settings) -> None:
    alice = await enter()
    for _ in range(300):
        await alice.socket.send_to(text_data="nonsense")
    assert await alice.closed() == 4008


async def signed_in(settings: Settings, name: str = "alice") -> dict[str, str]:
    """Return the arguments with which `enter` joins as this user."""
    client = Client()
    user, _ = await in_database(User.objects.get_or_create)(username=name)
    await in_database(client.force_login)(user)
    return {"cookie": client.cookies[settings.SESSION_COOKIE_NAME].value}


async def received_typing_frames(person: Person, listener: Person) -> int:
    """Return how many of the typing frames that were sent before have reached a member."""
    await person.say("done")
    count = 0
    while (await listener.next("typing", "message"))["type"] == "typing":
        count += 1
    return count


async def test_the_typing_rate_of_a_person_spans_connections(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_TYPING_PERSON = 0.4  # two at once
    bob, cookie = await enter(), await signed_in(settings)
    sockets = [await enter(**cookie) for _ in range(6)]
    for socket in sockets:
        await socket.socket.send_to(text_data='{"type": "typing"}')
        await socket.socket.send_to(text_data='{"type": "ping"}')
        await socket.next("pong")
    assert await received_typing_frames(sockets[0], bob) == 2


async def test_typing_frames_in_a_room_are_rate_limited(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_TYPING_ROOM = 0.6  # three at once
    bob = await enter()
    sockets = [await enter() for _ in range(6)]
    for socket in sockets:
        await socket.socket.send_to(text_data='{"type": "typing"}')
        await socket.socket.send_to(text_data='{"type": "ping"}')
        await socket.next("pong")
    assert await received_typing_frames(sockets[0], bob) == 3


async def test_failed_room_creations_do_not_count_for_the_limit(
    enter, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 3  # one at once
    await in_database(retire_names)(["given-up"])
    cookie = await signed_in(settings)
    for _ in range(2):
        assert (await enter("/ws/chat/given-up/", **cookie)).welcome["code"] == "no_room"

    def failing_make(names: Iterable[str]) -> set[str]:
        raise Refused(Code.TRY_LATER, "The database is busy.", close=Close.TRY_LATER)

    with monkeypatch.context() as patch:
        patch.setattr(permissions, "make", failing_make)
        assert (await enter("/ws/chat/busy/", **cookie)).welcome["code"] == "try_later"
    assert (await enter("/ws/chat/made/", **cookie)).welcome["type"] == "welcome"
    assert (await enter("/ws/chat/another/", **cookie)).welcome["code"] == "too_fast"


async def test_a_room_created_concurrently_counts_for_one_user(enter, settings: Settings) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 3  # one at once
    cookies = [await signed_in(settings, name) for name in ("alice", "bob")]
    joined = await asyncio.gather(*(enter("/ws/chat/new/", **cookie) for cookie in cookies))
    assert [person.welcome["type"] for person in joined] == ["welcome"] * 2
    more = [await enter(f"/ws/chat/more-{number}/", **cookie) for number, cookie in enumerate(cookies)]
    assert sorted(person.welcome.get("code", "welcome") for person in more) == ["too_fast", "welcome"]


async def test_new_rooms_of_a_person_are_limited_but_not_joins(enter, settings: Settings) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 9  # three at once
    cookie = await signed_in(settings)
    for number in range(3):
        assert (await enter(f"/ws/chat/new-{number}/", **cookie)).welcome["type"] == "welcome"
    refused = await enter("/ws/chat/new-3/", **cookie)
    assert refused.welcome["code"] == "too_fast"
    assert refused.welcome["error"].startswith("Too many new rooms.")
    assert refused.welcome["retry_after"] > 60
    assert await refused.closed() == 4008
    assert not await in_database(Room.objects.filter(name="new-3").exists)()
    assert (await enter("/ws/chat/new-0/", **cookie)).welcome["type"] == "welcome"
    other = await signed_in(settings, "bob")
    assert (await enter("/ws/chat/new-3/", **other)).welcome["type"] == "welcome"


async def test_guests_of_an_address_share_a_limit_of_new_rooms(enter, settings: Settings) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 0.6  # two at once for all guests of an address
    for number in range(2):
        assert (await enter(f"/ws/chat/new-{number}/")).welcome["type"] == "welcome"
    refused = await enter("/ws/chat/new-2/")
    assert refused.welcome["error"].startswith("Too many new rooms from your address.")


async def test_a_room_joined_by_many_while_created_counts_once(enter, settings: Settings) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 0.6  # two at once for all guests of an address
    joined = await asyncio.gather(*(enter("/ws/chat/new/") for _ in range(6)))
    assert [person.welcome.get("code", "welcome") for person in joined] == ["welcome"] * 6
    assert (await enter("/ws/chat/another/")).welcome["type"] == "welcome"
    assert (await enter("/ws/chat/too-many/")).welcome["code"] == "too_fast"


async def test_a_room_counts_for_a_creator_who_leaves_meanwhile(
    runtime: ChatRuntime, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 3  # one at once
    alice, bob = permissions.Person("u:1", "alice", 1), permissions.Person("u:2", "bob", 2)
    begun, may_continue, make = threading.Event(), threading.Event(), permissions.make

    def slow_make(names: list[str]) -> set[str]:
        begun.set()
        assert may_continue.wait(10)
        return make(names)

    monkeypatch.setattr(permissions, "make", slow_make)
    first = asyncio.create_task(permissions.enter(alice, "new", Source("192.0.2.1", alice.key)))
    await until(begun.is_set)
    second = asyncio.create_task(permissions.enter(bob, "new", Source("192.0.2.1", bob.key)))
    first.cancel()
    may_continue.set()
    assert (await second).name == "new"
    with pytest.raises(Refused):
        await permissions.enter(alice, "another", Source("192.0.2.1", alice.key))
    assert (await permissions.enter(bob, "another", Source("192.0.2.1", bob.key))).name == "another"


async def test_the_connect_rate_of_a_person_is_limited(enter, people: list[Person], settings: Settings) -> None:
    settings.CHANNELBOX_JOINS_PERSON = 0.1  # two at once
    cookie = await signed_in(settings)
    for _ in range(2):
        assert (await enter(**cookie)).welcome["type"] == "welcome"
        await people.pop().leave()
    refused = await enter(**cookie)
    assert refused.welcome["code"] == "too_fast"
    assert await refused.closed() == 4008
    assert (await enter(**await signed_in(settings, "bob"))).welcome["type"] == "welcome"


@pytest.mark.parametrize("path", ["/ws/chat/lobby/", "/ws/dashboard/", "/ws/nowhere/"])
async def test_the_connect_rate_of_an_address_is_limited(enter, settings: Settings, path: str) -> None:
    """Connections that are refused for another reason count too, because they have a cost."""
    settings.CHANNELBOX_GUESTS = False
    settings.CHANNELBOX_JOINS_ADDRESS = 0.2  # two at once
    for _ in range(2):
        assert (await enter(path)).welcome["code"] in ("sign_in", "no_room")
    refused = await enter(path)
    assert refused.welcome["code"] == "too_fast"
    assert refused.welcome["error"].startswith("Too many connections in a short time from your address.")
    assert await refused.closed() == 4008


async def test_a_client_within_its_limits_is_not_refused_after_a_stall(
    enter, workers: Workers, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends its burst, and then at its rate; the messages of the first second arrive together with the burst."""
    settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST = 20, 5
    clock_of(token_bucket, monkeypatch)
    alice = await enter()
    for number in range(5 + 20):
        await alice.say("hi", id=str(number))
    answers = [await alice.next("message", "error") for _ in range(25)]
    assert [answer for answer in answers if "error" in answer] == []
