"""What a person and an address may send, open and make in a time, through the whole ASGI application."""

import asyncio
import threading
import time
from collections.abc import Iterable

import pytest
from channels.db import database_sync_to_async as in_database
from django.test import Client
from pytest_django import Settings
from tests.chat.process import Person, Workers, connections_go_back, enter, installation, people, runtime, workers
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


async def test_too_fast_is_told_with_the_time_to_wait(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST = 1, 2
    alice = await enter()
    for number in range(4):  # two, and one for what may arrive late
        await alice.say("hi", id=str(number))
    error = await alice.next("error")
    assert (error["code"], error["id"]) == ("too_fast", "3")
    assert 0 < error["retry_after"] <= 1


@pytest.mark.parametrize(
    ("setting", "words"), [("PERSON", "over all your connections"), ("ADDRESS", "from your address")]
)
async def test_many_connections_send_no_faster_than_their_person_and_their_address_may(
    enter, workers: Workers, settings: Settings, setting: str, words: str
) -> None:
    """Two bursts of three: a connection may send that, both together not."""
    settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST = 0.1, 3
    settings.CHANNELBOX_RATE_PERSON = settings.CHANNELBOX_RATE_ADDRESS = 100
    setattr(settings, f"CHANNELBOX_RATE_{setting}", 0.1)
    client = Client()
    user = await in_database(User.objects.create)(username="alice")
    await in_database(client.force_login)(user)
    cookie = {"cookie": client.cookies[settings.SESSION_COOKIE_NAME].value}
    # Guests without a session are strangers to each other, and at one address all the same.
    first, second = [await enter(**(cookie if setting == "PERSON" else {})) for _ in range(2)]
    for number in range(3):
        await first.say("hi", id=str(number))
        await first.next("message")
    await second.say("hi", id="too much")
    error = await second.next("error")
    assert (error["code"], error["id"]) == ("too_fast", "too much")
    assert words in error["error"]
    assert 0 < error["retry_after"] <= 10


async def test_guests_use_up_nothing_of_those_at_their_address_who_are_signed_in(
    enter, workers: Workers, settings: Settings
) -> None:
    settings.CHANNELBOX_RATE_ADDRESS = 0.1  # one message at once
    guest, other_guest, alice = await enter(), await enter(), await enter(cookie=(await signed_in(settings))["cookie"])
    await guest.say("hi")
    await other_guest.say("hi")
    error = await other_guest.next("error")
    assert (error["code"], "from your address" in error["error"]) == ("too_fast", True)
    await alice.say("hi", id="alice's")
    while (heard := await alice.next("message", "error"))["id"] != "alice's":
        pass
    assert heard.get("message") == "hi"


@pytest.mark.parametrize(("setting", "words"), [("PERSON", "2 of yours"), ("ADDRESS", "2 from your address")])
async def test_more_connections_than_a_person_and_an_address_may_have_are_closed_with_4008(
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


async def test_guests_of_one_address_leave_connections_to_people(enter, settings: Settings) -> None:
    settings.CHANNELBOX_SOCKETS_GUESTS = 2
    first, _ = await enter(), await enter("/ws/dashboard/")
    for path in ("/ws/chat/lobby/", "/ws/dashboard/"):
        refused = await enter(path)
        assert (refused.welcome["code"], await refused.closed()) == ("too_many", 4008)
        assert "2 by guests from your address" in refused.welcome["error"]
    assert (await enter(**await signed_in(settings))).welcome["type"] == "welcome"
    await first.leave()
    assert (await enter()).welcome["type"] == "welcome"


async def test_guests_leave_places_in_a_room_to_people(enter, settings: Settings) -> None:
    settings.CHANNELBOX_ROOM_GUESTS = 50
    await in_database(Room.objects.create)(name="lobby", limit=4)
    joined = await asyncio.gather(*(enter() for _ in range(4)))
    assert sorted(person.welcome.get("code", "welcome") for person in joined) == ["room_full"] * 2 + ["welcome"] * 2
    cookie = await signed_in(settings)
    assert [(await enter(**cookie)).welcome["type"] for _ in range(2)] == ["welcome"] * 2
    full = await enter(**cookie)
    assert (full.welcome["code"], await full.closed()) == ("room_full", 4000)


async def test_the_dashboards_connections_count_as_well(enter, settings: Settings) -> None:
    settings.CHANNELBOX_SOCKETS_ADDRESS = 2
    await enter()
    dashboard = await enter("/ws/dashboard/")
    assert dashboard.welcome["type"] == "welcome"
    refused = await enter("/ws/dashboard/")
    assert refused.welcome["code"] == "too_many"
    assert await refused.closed() == 4008
    await dashboard.leave()
    assert (await enter("/ws/dashboard/")).welcome["type"] == "welcome"


async def test_frames_that_are_never_refused_are_taken_no_faster_than_others(enter, settings: Settings) -> None:
    settings.CHANNELBOX_RATE = settings.CHANNELBOX_RATE_BURST = 2
    settings.CHANNELBOX_RATE_PERSON = 2  # frames: ten a second, ten at once
    alice = await enter()
    started = time.monotonic()
    for _ in range(20):
        await alice.socket.send_to(text_data='{"type": "ping"}')
    for _ in range(20):
        await alice.next("pong")
    assert time.monotonic() - started >= 0.9  # ten of them had to wait: never less than a second, but for the clock


async def test_who_does_not_heed_is_closed_with_4008(enter, settings: Settings) -> None:
    alice = await enter()
    for _ in range(300):
        await alice.socket.send_to(text_data="nonsense")
    assert await alice.closed() == 4008


async def signed_in(settings: Settings, name: str = "alice") -> dict[str, str]:
    """What `enter` takes for a user."""
    client = Client()
    user, _ = await in_database(User.objects.get_or_create)(username=name)
    await in_database(client.force_login)(user)
    return {"cookie": client.cookies[settings.SESSION_COOKIE_NAME].value}


async def typed(person: Person, listener: Person) -> int:
    """How many of the typing frames that were sent before reached a member."""
    await person.say("done")
    count = 0
    while (await listener.next("typing", "message"))["type"] == "typing":
        count += 1
    return count


async def test_one_person_types_no_faster_over_many_connections(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_TYPING_PERSON = 0.4  # two at once
    bob, cookie = await enter(), await signed_in(settings)
    sockets = [await enter(**cookie) for _ in range(6)]
    for socket in sockets:
        await socket.socket.send_to(text_data='{"type": "typing"}')
        await socket.socket.send_to(text_data='{"type": "ping"}')
        await socket.next("pong")
    assert await typed(sockets[0], bob) == 2


async def test_a_room_is_told_of_so_many_who_type_whoever_they_are(enter, workers: Workers, settings: Settings) -> None:
    settings.CHANNELBOX_TYPING_ROOM = 0.6  # three at once
    bob = await enter()
    sockets = [await enter() for _ in range(6)]
    for socket in sockets:
        await socket.socket.send_to(text_data='{"type": "typing"}')
        await socket.socket.send_to(text_data='{"type": "ping"}')
        await socket.next("pong")
    assert await typed(sockets[0], bob) == 3


async def test_rooms_that_are_not_made_count_for_nobody(
    enter, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 3  # one at once
    await in_database(retire_names)(["given-up"])
    cookie = await signed_in(settings)
    for _ in range(2):
        assert (await enter("/ws/chat/given-up/", **cookie)).welcome["code"] == "no_room"

    def busy(names: Iterable[str]) -> set[str]:
        raise Refused(Code.TRY_LATER, "The database is busy.", close=Close.TRY_LATER)

    with monkeypatch.context() as patch:
        patch.setattr(permissions, "make", busy)
        assert (await enter("/ws/chat/busy/", **cookie)).welcome["code"] == "try_later"
    assert (await enter("/ws/chat/made/", **cookie)).welcome["type"] == "welcome"
    assert (await enter("/ws/chat/another/", **cookie)).welcome["code"] == "too_fast"


async def test_a_room_that_two_make_at_once_counts_for_one(enter, settings: Settings) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 3  # one at once
    cookies = [await signed_in(settings, name) for name in ("alice", "bob")]
    joined = await asyncio.gather(*(enter("/ws/chat/new/", **cookie) for cookie in cookies))
    assert [person.welcome["type"] for person in joined] == ["welcome"] * 2
    more = [await enter(f"/ws/chat/more-{number}/", **cookie) for number, cookie in enumerate(cookies)]
    assert sorted(person.welcome.get("code", "welcome") for person in more) == ["too_fast", "welcome"]


async def test_one_person_makes_so_many_rooms_and_enters_any_that_is_there(enter, settings: Settings) -> None:
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


async def test_guests_of_one_address_make_so_many_rooms_together(enter, settings: Settings) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 0.6  # two at once for all guests of an address
    for number in range(2):
        assert (await enter(f"/ws/chat/new-{number}/")).welcome["type"] == "welcome"
    refused = await enter("/ws/chat/new-2/")
    assert refused.welcome["error"].startswith("Too many new rooms from your address.")


async def test_a_room_that_many_enter_while_it_is_made_counts_for_one(enter, settings: Settings) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 0.6  # two at once for all guests of an address
    joined = await asyncio.gather(*(enter("/ws/chat/new/") for _ in range(6)))
    assert [person.welcome.get("code", "welcome") for person in joined] == ["welcome"] * 6
    assert (await enter("/ws/chat/another/")).welcome["type"] == "welcome"
    assert (await enter("/ws/chat/too-many/")).welcome["code"] == "too_fast"


async def test_who_leaves_while_it_makes_a_room_has_made_one(
    runtime: ChatRuntime, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 3  # one at once
    alice, bob = permissions.Person("u:1", "alice", 1), permissions.Person("u:2", "bob", 2)
    begun, go_on, make = threading.Event(), threading.Event(), permissions.make

    def slow(names: list[str]) -> set[str]:
        begun.set()
        assert go_on.wait(10)
        return make(names)

    monkeypatch.setattr(permissions, "make", slow)
    first = asyncio.create_task(permissions.enter(alice, "new", Source("192.0.2.1", alice.key)))
    await until(begun.is_set)
    second = asyncio.create_task(permissions.enter(bob, "new", Source("192.0.2.1", bob.key)))
    first.cancel()
    go_on.set()
    assert (await second).name == "new"
    with pytest.raises(Refused):
        await permissions.enter(alice, "another", Source("192.0.2.1", alice.key))
    assert (await permissions.enter(bob, "another", Source("192.0.2.1", bob.key))).name == "another"


async def test_one_person_opens_so_many_connections_in_a_time(enter, people: list[Person], settings: Settings) -> None:
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
async def test_one_address_opens_so_many_connections_in_a_time(enter, settings: Settings, path: str) -> None:
    """Also such as are refused for another reason: those cost as well."""
    settings.CHANNELBOX_GUESTS = False
    settings.CHANNELBOX_JOINS_ADDRESS = 0.2  # two at once
    for _ in range(2):
        assert (await enter(path)).welcome["code"] in ("sign_in", "no_room")
    refused = await enter(path)
    assert refused.welcome["code"] == "too_fast"
    assert refused.welcome["error"].startswith("Too many connections in a short time from your address.")
    assert await refused.closed() == 4008


async def test_a_client_that_keeps_to_its_limits_is_not_refused_after_a_stall(
    enter, workers: Workers, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends its burst, and then at its rate; the first second of that arrives together with the burst."""
    settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST = 20, 5
    clock_of(token_bucket, monkeypatch)
    alice = await enter()
    for number in range(5 + 20):
        await alice.say("hi", id=str(number))
    answers = [await alice.next("message", "error") for _ in range(25)]
    assert [answer for answer in answers if "error" in answer] == []
