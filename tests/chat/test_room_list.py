"""The list of rooms: whose come first, a page at a time, and found by a search."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db.models import Model
from django.test import AsyncClient, Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings
from tests.chat.many import say_much

from channelbox.accounts.models import User
from channelbox.chat import permissions
from channelbox.chat.models import Event, Room
from channelbox.realtime.bus import Bus

pytestmark = pytest.mark.django_db

MANY = 250


@pytest.fixture(autouse=True)
def alice(client: Client, settings: Settings) -> User:
    settings.CHANNELBOX_GUESTS = False
    alice = User.objects.create(username="alice")
    client.force_login(alice)
    return alice


def make(*names: str, **fields: Any) -> list[Room]:
    """Rooms, each newer than the one before."""
    return [Room.objects.create(name=name, **fields) for name in names]


def bury() -> None:
    """Somebody makes as many rooms as nobody looks through."""
    Room.objects.bulk_create(Room(name=f"heap-{number}") for number in range(MANY))


def ask(client: Client, **query: Any) -> Any:
    return client.get("/chat/api/rooms", query).json()


def names(answer: Any) -> list[str]:
    return [room["name"] for room in answer["rooms"]]


def pages(client: Client, **query: Any) -> Iterator[list[str]]:
    answer = ask(client, **query)
    yield names(answer)
    while answer["next"]:
        answer = ask(client, **query, before=answer["next"])
        yield names(answer)


def test_own_rooms_and_those_where_people_talk_are_not_buried(client: Client, alice: User) -> None:
    talked, spoken, member, never = make("talked", "spoken", "member", "never")
    say_much(spoken, 3, alice)
    say_much(talked, 3)
    member.members.add(alice)
    bury()
    answer = ask(client)
    assert names(answer)[:3] == ["member", "spoken", "talked"]
    assert len(answer["rooms"]) == 200
    listed = client.get("/chat/").context["rooms"]
    assert listed[:3] == [member, spoken, talked]
    assert never not in listed


def test_the_rooms_of_a_guest_are_not_buried(client: Client, settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS = True
    client.logout()
    client.get("/chat/")
    make("other")
    (own,) = make("own")
    key = client.session[permissions.GUEST_KEY]
    Event.objects.create(room=own, seq=1, sender=f"g:{key}", client_id="1", name="guest", at=timezone.now())
    bury()
    assert names(ask(client))[0] == "own"


@pytest.mark.parametrize("same_time", [False, True])
def test_every_room_is_on_one_page(client: Client, alice: User, same_time: bool) -> None:
    bury()
    say_much(Room.objects.get(name="heap-7"), 1)
    say_much(Room.objects.get(name="heap-9"), 1, alice)
    if same_time:
        Room.objects.update(changed_at=timezone.now())
    found = list(pages(client, limit=60))
    assert [len(page) for page in found] == [60, 60, 60, 60, 10]
    listed = [name for page in found for name in page]
    assert listed[:2] == ["heap-9", "heap-7"]
    assert sorted(listed) == sorted(Room.objects.values_list("name", flat=True))


def test_a_last_page_that_is_full_has_no_next(client: Client) -> None:
    make("a", "b", "c")
    assert list(pages(client, limit=3)) == [["c", "b", "a"]]


def test_rooms_are_found_by_a_part_of_their_name_or_title(client: Client) -> None:
    make("north-yard", title="Trains")
    make("office", title="North office")
    make("south")
    make("north-leads", members_only=True)
    bury()
    assert names(ask(client, search="NORTH")) == ["office", "north-yard"]
    assert names(ask(client, search="100%")) == []
    assert list(pages(client, search="north", limit=1)) == [["office"], ["north-yard"]]
    assert [room.name for room in client.get("/chat/", {"search": " north "}).context["rooms"]] == [
        "office",
        "north-yard",
    ]


def test_the_page_leads_to_the_others(client: Client) -> None:
    bury()
    first = client.get("/chat/")
    second = client.get(f"/chat/?{first.context['more']}")
    assert len(first.context["rooms"]) == 200
    assert len(second.context["rooms"]) == MANY - 200
    assert not second.context["more"]
    assert second.context["page"]["list"].startswith("/chat/api/rooms?before=")
    assert 'href="/chat/"' in second.text
    found = client.get("/chat/", {"search": "heap-24"})
    assert found.context["page"]["list"] == "/chat/api/rooms?search=heap-24"
    assert 'value="heap-24"' in found.text
    assert "No rooms found" in client.get("/chat/", {"search": "nothing"}).text


def test_the_room_that_is_open_is_in_its_own_list(client: Client) -> None:
    make("first")
    bury()
    assert 'data-room="first"' in client.get("/chat/room/first/").text


@pytest.mark.parametrize(
    "query",
    [
        {"before": "x"},
        {"before": "3-1-1"},
        {"before": "0-99999999999999999-1"},
        {"before": "0-1-9999999999999999999"},
        {"search": "a\0b"},
        {"search": "x" * 201},
        {"limit": "many"},
    ],
)
def test_what_makes_no_sense_is_refused(client: Client, query: dict[str, str]) -> None:
    answer = client.get("/chat/api/rooms", query)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    if "limit" not in query:
        assert client.get("/chat/", query).headers["Location"] == "/chat/"


def test_the_page_costs_the_same_for_few_rooms_and_for_many(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[None] = []
    construct = Room.from_db

    def counted(*row: Any) -> Model:
        read.append(None)
        return construct(*row)

    make("a")
    with django_assert_num_queries(3):  # session, user, rooms
        ask(client)
    bury()
    monkeypatch.setattr(Room, "from_db", counted)
    with django_assert_num_queries(3):
        ask(client, limit=50)
    assert len(read) == 51


@pytest.mark.django_db(transaction=True)
async def test_rooms_made_by_the_form_count_like_those_that_a_socket_makes(
    async_client: AsyncClient, settings: Settings
) -> None:
    settings.CHANNELBOX_GUESTS, settings.CHANNELBOX_ROOM_CREATION = True, "anyone"
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 6  # an hour, and a third of that at once
    try:
        answers = [await async_client.post("/chat/", {"name": f"room-{number}"}) for number in range(3)]
        again = await async_client.post("/chat/", {"name": "room-0"})
    finally:
        await Bus.current().stop()
    assert [answer.status_code for answer in answers] == [302, 302, 429]
    assert b"Too many new rooms" in answers[2].content
    assert again.status_code == 302, "a room that is there is not made"
