"""The list of rooms: its order, its pages and its search."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db.models import Model
from django.test import AsyncClient, Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings
from tests.chat.many_messages import insert_messages

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
    """Create rooms, each newer than the one before."""
    return [Room.objects.create(name=name, **fields) for name in names]


def create_many_rooms() -> None:
    """Create more rooms than one page lists."""
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


def test_own_and_active_rooms_come_before_empty_ones(client: Client, alice: User) -> None:
    talked, spoken, member, never = make("talked", "spoken", "member", "never")
    insert_messages(spoken, 3, alice)
    insert_messages(talked, 3)
    member.members.add(alice)
    create_many_rooms()
    answer = ask(client)
    assert names(answer)[:3] == ["member", "spoken", "talked"]
    assert len(answer["rooms"]) == 200
    listed = client.get("/chat/").context["rooms"]
    assert listed[:3] == [member, spoken, talked]
    assert never not in listed


def test_rooms_in_which_a_guest_has_spoken_come_first(client: Client, settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS = True
    client.logout()
    client.get("/chat/")
    make("other")
    (own,) = make("own")
    key = client.session[permissions.GUEST_KEY]
    Event.objects.create(room=own, seq=1, sender=f"g:{key}", client_id="1", name="guest", at=timezone.now())
    create_many_rooms()
    assert names(ask(client))[0] == "own"


@pytest.mark.parametrize("same_time", [False, True])
def test_every_room_is_on_exactly_one_page(client: Client, alice: User, same_time: bool) -> None:
    create_many_rooms()
    insert_messages(Room.objects.get(name="heap-7"), 1)
    insert_messages(Room.objects.get(name="heap-9"), 1, alice)
    if same_time:
        Room.objects.update(changed_at=timezone.now())
    found = list(pages(client, limit=60))
    assert [len(page) for page in found] == [60, 60, 60, 60, 10]
    listed = [name for page in found for name in page]
    assert listed[:2] == ["heap-9", "heap-7"]
    assert sorted(listed) == sorted(Room.objects.values_list("name", flat=True))


def test_a_full_last_page_has_no_next_page(client: Client) -> None:
    make("a", "b", "c")
    assert list(pages(client, limit=3)) == [["c", "b", "a"]]


def test_the_search_finds_parts_of_names_and_titles(client: Client) -> None:
    make("north-yard", title="Trains")
    make("office", title="North office")
    make("south")
    make("north-leads", members_only=True)
    create_many_rooms()
    assert names(ask(client, search="NORTH")) == ["office", "north-yard"]
    assert names(ask(client, search="100%")) == []
    assert list(pages(client, search="north", limit=1)) == [["office"], ["north-yard"]]
    assert [room.name for room in client.get("/chat/", {"search": " north "}).context["rooms"]] == [
        "office",
        "north-yard",
    ]


def test_the_html_list_has_pages_and_a_search(client: Client) -> None:
    create_many_rooms()
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


def test_the_page_of_a_room_lists_that_room(client: Client) -> None:
    make("first")
    create_many_rooms()
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
def test_invalid_list_parameters_are_refused(client: Client, query: dict[str, str]) -> None:
    answer = client.get("/chat/api/rooms", query)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    if "limit" not in query:
        assert client.get("/chat/", query).headers["Location"] == "/chat/"


def test_list_queries_do_not_grow_with_the_number_of_rooms(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[None] = []
    construct = Room.from_db

    def recording_from_db(*row: Any) -> Model:
        loads.append(None)
        return construct(*row)

    make("a")
    with django_assert_num_queries(3):  # session, user, rooms
        ask(client)
    create_many_rooms()
    monkeypatch.setattr(Room, "from_db", recording_from_db)
    with django_assert_num_queries(3):
        ask(client, limit=50)
    assert len(loads) == 51


@pytest.mark.django_db(transaction=True)
async def test_rooms_created_by_the_form_count_for_the_limit(async_client: AsyncClient, settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS, settings.CHANNELBOX_ROOM_CREATION = True, "anyone"
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 6  # an hour, and a third of that at once
    try:
        answers = [await async_client.post("/chat/", {"name": f"room-{number}"}) for number in range(3)]
        again = await async_client.post("/chat/", {"name": "room-0"})
    finally:
        await Bus.current().stop()
    assert [answer.status_code for answer in answers] == [302, 302, 429]
    assert b"Too many new rooms" in answers[2].content
    assert again.status_code == 302, "an existing room is not created"
