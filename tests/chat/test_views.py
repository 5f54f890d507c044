"""The pages and the history over HTTP: access, contents and errors."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from channelbox.accounts.models import User
from channelbox.chat import permissions
from channelbox.chat.models import Event, Room

pytestmark = pytest.mark.django_db

AT = datetime(2026, 1, 2, 8, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _closed_to_guests(settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS = False
    settings.CHANNELBOX_ROOM_CREATION = "users"


@pytest.fixture
def alice(client: Client) -> User:
    user = User.objects.create_user("alice")
    client.force_login(user)
    return user


@pytest.fixture
def room() -> Room:
    return Room.objects.create(name="north", title="Northern yard")


def insert_messages(room: Room, *texts: str) -> None:
    Event.objects.bulk_create(
        Event(room=room, seq=seq, sender="u:1", client_id=str(seq), name="alice", text=text, at=AT)
        for seq, text in enumerate(texts, 1)
    )


def history(client: Client, room: str = "north", **query: Any) -> Any:
    return client.get(reverse("chat:history", kwargs={"room_name": room}), query)


def test_the_page_of_a_room_shows_its_title(client: Client, alice: User, room: Room) -> None:
    answer = client.get(reverse("chat:room", kwargs={"room_name": room.name}))
    assert answer.status_code == 200
    assert answer.context["page"]["socket"] == "/ws/chat/north/"
    assert "Northern yard" in answer.text
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_addresses_are_those_of_the_channels_tutorial() -> None:
    assert reverse("chat:rooms") == "/chat/"
    assert reverse("chat:room", kwargs={"room_name": "north"}) == "/chat/room/north/"
    assert reverse("dashboard:live") == "/chat/dashboard/"


@pytest.mark.parametrize("address", ["/chat/", "/chat/room/north/", "/chat/dashboard/"])
def test_pages_redirect_guests_to_the_sign_in_page(client: Client, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/accounts/login/?next={address}"


@pytest.mark.parametrize("address", ["/chat/", "/chat/room/north/", "/chat/dashboard/"])
def test_pages_are_open_to_guests_where_guests_are_allowed(
    client: Client, settings: Settings, room: Room, address: str
) -> None:
    settings.CHANNELBOX_GUESTS = True
    assert client.get(address).status_code == 200


def test_a_guest_keeps_the_same_key_over_several_pages(client: Client, settings: Settings, room: Room) -> None:
    settings.CHANNELBOX_GUESTS = True
    client.get("/chat/room/north/")
    key = client.session[permissions.GUEST_KEY]
    client.get("/chat/")
    assert client.session[permissions.GUEST_KEY] == key
    assert len(key) > 20


def test_rooms_are_listed_with_the_newest_activity_first(client: Client, alice: User, room: Room) -> None:
    busy = Room.objects.create(name="busy")
    Room.objects.filter(pk=room.pk).update(changed_at=AT)
    Room.objects.create(name="closed", closed=True)
    Room.objects.create(name="leads", members_only=True)
    own = Room.objects.create(name="own", members_only=True)
    own.members.add(alice)
    assert client.get("/chat/").context["rooms"] == [own, busy, room]


def test_the_room_list_of_the_api_contains_the_last_numbers(client: Client, alice: User, room: Room) -> None:
    Room.objects.create(name="leads", members_only=True)
    own = Room.objects.create(name="own", members_only=True)
    own.members.add(alice)
    Room.objects.filter(pk=room.pk).update(changed_at=AT, last_seq=17)
    listed = client.get("/chat/api/rooms").json()["rooms"]
    assert [room["name"] for room in listed] == ["own", "north"]
    assert listed[1] == {
        "name": "north",
        "title": "Northern yard",
        "url": "/chat/room/north/",
        "members_only": False,
        "seq": 17,
        "epoch": room.full_epoch,
        "changed_at": "2026-01-02T08:00:00.000Z",
    }
    client.logout()
    answer = client.get("/chat/api/rooms")
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in")


def test_the_form_redirects_to_the_named_room(client: Client, alice: User) -> None:
    answer = client.post("/chat/", {"name": " a.b-c_1 "})
    assert answer.headers["Location"] == "/chat/room/a.b-c_1/"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "two words", "a/b", "\N{LATIN SMALL LETTER A WITH DIAERESIS}", "x" * 81]
)
def test_the_form_refuses_an_invalid_name_with_a_reason(client: Client, alice: User, name: str) -> None:
    answer = client.post("/chat/", {"name": name})
    assert answer.status_code == 400
    assert answer.context["form"].errors["name"]


def test_a_new_room_can_be_opened_only_with_permission(
    client: Client, alice: User, room: Room, settings: Settings
) -> None:
    settings.CHANNELBOX_ROOM_CREATION = "staff"
    assert client.post("/chat/", {"name": "new"}).status_code == 400
    assert client.post("/chat/", {"name": "north"}).status_code == 302
    assert client.get("/chat/room/new/").status_code == 404
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    assert client.get("/chat/room/new/").status_code == 200
    assert not Room.objects.filter(name="new").exists()


def test_closed_and_members_only_rooms_answer_403(client: Client, alice: User) -> None:
    Room.objects.create(name="closed", closed=True)
    leads = Room.objects.create(name="leads", members_only=True)
    assert client.get("/chat/room/closed/").status_code == 403
    assert client.get("/chat/room/leads/").status_code == 403
    leads.members.add(alice)
    assert client.get("/chat/room/leads/").status_code == 200


def test_the_title_of_a_room_is_escaped(client: Client, alice: User) -> None:
    Room.objects.create(name="attack", title="</script><script>alert(1)</script>")
    for address in ("/chat/", "/chat/room/attack/"):
        assert "<script>alert" not in client.get(address).text


def test_pages_and_api_answers_are_not_cached(client: Client, alice: User, room: Room) -> None:
    for address in (
        "/chat/",
        "/chat/room/north/",
        "/chat/api/rooms",
        "/chat/api/rooms/north/messages",
        "/chat/dashboard/",
    ):
        assert "no-store" in client.get(address).headers["Cache-Control"]


def test_history_contains_the_newest_messages_in_order(client: Client, alice: User, room: Room) -> None:
    insert_messages(room, *map(str, range(1, 61)))
    messages = history(client).json()["messages"]
    assert [message["seq"] for message in messages] == list(range(11, 61))
    assert messages[0] == {
        "type": "message",
        "seq": 11,
        "id": "11",
        "user": "alice",
        "message": "11",
        "at": "2026-01-02T08:00:00.000Z",
    }


def test_history_can_be_read_before_and_after_a_number(client: Client, alice: User, room: Room) -> None:
    insert_messages(room, *map(str, range(1, 11)))

    def numbers(**query: Any) -> list[int]:
        return [message["seq"] for message in history(client, **query).json()["messages"]]

    assert numbers(before=4) == [1, 2, 3]
    assert numbers(before=9, limit=2) == [7, 8]
    assert numbers(after=8) == [9, 10]
    assert numbers(after=2, limit=3) == [3, 4, 5]
    assert numbers(after=2, before=4) == [3]
    assert numbers(after=10) == []


def test_history_returns_at_most_200_messages(client: Client, alice: User, room: Room) -> None:
    insert_messages(room, *map(str, range(1, 251)))
    assert len(history(client, limit=1000).json()["messages"]) == 200


@pytest.mark.parametrize(
    "query", [{"before": "x"}, {"after": "-1"}, {"limit": "1.5"}, {"before": "9" * 30}, {"before": ""}]
)
def test_invalid_history_parameters_are_refused(client: Client, alice: User, room: Room, query: dict[str, str]) -> None:
    answer = history(client, **query)
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid"


def test_visitors_without_a_session_can_read_history_as_guests(
    client: Client, alice: User, room: Room, settings: Settings
) -> None:
    settings.CHANNELBOX_GUESTS = True
    assert client.session.session_key
    client.session.delete()
    assert history(client).status_code == 200
    assert client.get("/chat/api/rooms").json()["rooms"]
    assert history(Client()).status_code == 200
    Room.objects.filter(pk=room.pk).update(members_only=True)
    assert history(client).status_code == 403


def test_history_requires_the_same_permissions_as_the_socket(client: Client, room: Room) -> None:
    assert history(client).status_code == 401
    client.force_login(User.objects.create_user("bob"))
    assert history(client).status_code == 200
    for name, fields in {"closed": {"closed": True}, "leads": {"members_only": True}}.items():
        Room.objects.create(name=name, **fields)
        assert history(client, name).status_code == 403
    # A hidden room and a missing one get the same answer.
    assert history(client, "leads").json()["code"] == history(client, "missing").json()["code"] == "not_allowed"


def test_unsupported_methods_get_405(client: Client, alice: User, room: Room) -> None:
    assert client.post("/chat/api/rooms/north/messages").status_code == 405
    assert client.post("/chat/room/north/").status_code == 405
    assert client.delete("/chat/").status_code == 405


def test_the_dashboard_has_a_wall_display_mode(client: Client, alice: User) -> None:
    assert not client.get("/chat/dashboard/").context["wall"]
    assert client.get("/chat/dashboard/?wall").context["wall"]


def test_an_unknown_address_gets_the_products_own_404_page(client: Client) -> None:
    answer = client.get("/no/such/page")
    assert answer.status_code == 404
    assert "Page not found" in answer.text
