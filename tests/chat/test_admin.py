"""Rooms and users in the Django admin."""

from collections.abc import Collection
from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models import Model
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from tests.chat.many_messages import insert_messages

from channelbox.accounts.models import User
from channelbox.chat.admin import MAX_SELECT_MEMBERS, RoomAdmin
from channelbox.chat.models import Event, Room

pytestmark = pytest.mark.django_db

MANY = 300  # of each
PAGE = 110  # objects that one page may read: a list shows 100


@pytest.fixture
def administrator(client: Client) -> Client:
    password = make_password(None)
    client.force_login(User.objects.create(username="admin", password=password, is_staff=True, is_superuser=True))
    return client


def test_a_room_can_be_edited(administrator: Client) -> None:
    room = Room.objects.create(name="ops")
    member = User.objects.create(username="alice")
    body = {"name": "ops", "title": "Operations", "limit": "", "members_only": "on", "members": [member.pk]}
    answer = administrator.post(f"/admin/chat/room/{room.pk}/change/", body)
    assert answer.status_code == 302, answer.content.decode()
    room.refresh_from_db()
    assert (room.title, room.members_only, list(room.members.all())) == ("Operations", True, [member])


def test_a_room_can_be_added(administrator: Client) -> None:
    answer = administrator.post("/admin/chat/room/add/", {"name": "ops", "title": "", "limit": ""})
    assert answer.status_code == 302, answer.content.decode()
    assert Room.objects.get().name == "ops"


def test_editing_a_room_does_not_overwrite_its_last_number(
    administrator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room.objects.create(name="ops")
    construct = RoomAdmin.get_form

    def store_a_message_meanwhile(self: RoomAdmin, request: HttpRequest, obj: Room | None = None, **kwargs: Any) -> Any:
        Room.objects.filter(pk=room.pk).update(last_seq=17)
        return construct(self, request, obj, **kwargs)

    monkeypatch.setattr(RoomAdmin, "get_form", store_a_message_meanwhile)
    administrator.post(f"/admin/chat/room/{room.pk}/change/", {"name": "ops", "title": "Operations", "limit": ""})
    room.refresh_from_db()
    assert (room.title, room.last_seq) == ("Operations", 17)


@pytest.mark.parametrize(
    ("order", "names"),
    [("5", ["quiet", "ops", "busy"]), ("-5", ["busy", "ops", "quiet"]), ("6", ["busy", "quiet", "ops"])],
)
def test_rooms_are_listed_once_by_their_number_or_activity(administrator: Client, order: str, names: list[str]) -> None:
    for name, last, minute in (("ops", 2, 3), ("busy", 3, 1), ("quiet", 0, 2)):
        room = Room.objects.create(name=name)
        insert_messages(room, last)
        Room.objects.filter(pk=room.pk).update(changed_at=f"2026-11-30T10:0{minute}Z")
    answer = administrator.get("/admin/chat/room/", {"o": order})
    assert [room.name for room in answer.context["cl"].result_list] == names


def test_an_open_page_does_not_recreate_a_renamed_room(administrator: Client, settings: Settings) -> None:
    room = Room.objects.create(name="ops")
    form = {"name": "operations", "title": "", "limit": ""}
    assert administrator.post(f"/admin/chat/room/{room.pk}/change/", form).status_code == 302
    assert administrator.get("/chat/room/ops/").status_code == 404
    assert administrator.post("/chat/", {"name": "ops"}).status_code == 302
    assert set(Room.objects.values_list("name", flat=True)) == {"ops", "operations"}


def test_a_room_with_very_many_members_can_be_edited(administrator: Client) -> None:
    room = Room.objects.create(name="ops")
    people = User.objects.bulk_create(User(username=f"user-{number}") for number in range(1200))
    room.members.set(people)
    page = administrator.get(f"/admin/chat/room/{room.pk}/change/")
    assert "user-7" not in page.text, "each member as an element of the page"
    kept = ",".join(str(user.pk) for user in people[1:])
    form = {"name": "ops", "title": "", "limit": "", "members_only": "on", "members": kept}
    assert administrator.post(f"/admin/chat/room/{room.pk}/change/", form).status_code == 302
    assert set(room.members.all()) == set(people[1:])


@pytest.mark.parametrize(("now", "apart"), [(MAX_SELECT_MEMBERS + 1, True), (MAX_SELECT_MEMBERS, False)])
def test_members_are_kept_when_their_number_changes_the_form_field(
    administrator: Client, now: int, apart: bool
) -> None:
    room = Room.objects.create(name="ops")
    people = User.objects.bulk_create(User(username=f"user-{number}") for number in range(now))
    room.members.set(people)
    keys = [str(user.pk) for user in people[1:]]
    form = {"name": "ops", "title": "", "limit": "", "members_only": "on", "members": keys if apart else ",".join(keys)}
    answer = administrator.post(f"/admin/chat/room/{room.pk}/change/", form)
    assert answer.status_code == 302, answer.content.decode()
    assert set(room.members.all()) == set(people[1:])


@pytest.fixture
def busy() -> Room:
    room = Room.objects.create(name="busy", title="Busy room")
    insert_messages(room, MANY)
    return room


def record_loads(model: type[Model], monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list that gets an item for each object of this model that is read from now on."""
    loads: list[None] = []
    construct = model.from_db

    def recording_from_db(database: str, names: Collection[str], values: Collection[Any]) -> Model:
        loads.append(None)
        return construct(database, names, values)

    monkeypatch.setattr(model, "from_db", recording_from_db)
    return loads


def test_a_room_is_deleted_without_loading_its_events(
    administrator: Client, busy: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = record_loads(Event, monkeypatch)
    address = f"/admin/chat/room/{busy.pk}/delete/"
    page = administrator.get(address)
    assert "Busy room" in page.text
    assert f"{MANY} messages and other events" in page.text
    with CaptureQueriesContext(connection) as queries:
        assert administrator.post(address, {"post": "yes"}).status_code == 302
    assert events == []
    assert not any("DELETE" in query["sql"] and "chat_event" in query["sql"] for query in queries)
    assert not Room.objects.exists()
    assert f"/admin/chat/room/{busy.pk}/" not in administrator.get("/admin/chat/room/").text
    assert administrator.get(f"/admin/chat/room/{busy.pk}/change/").status_code == 302


def test_selected_rooms_are_deleted_without_loading_events(
    administrator: Client, busy: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Room.objects.create(name="other")
    kept = Room.objects.create(name="kept")
    events = record_loads(Event, monkeypatch)
    form = {"action": "delete_selected", ACTION_CHECKBOX_NAME: [busy.pk, other.pk]}
    assert "Busy room" in administrator.post("/admin/chat/room/", form).text
    with CaptureQueriesContext(connection) as queries:
        administrator.post("/admin/chat/room/", {**form, "post": "yes"})
    assert events == []
    assert not any("DELETE" in query["sql"] and "chat_event" in query["sql"] for query in queries)
    assert list(Room.objects.all()) == [kept]


def test_deleting_a_room_requires_permission(client: Client) -> None:
    staff = User.objects.create(username="staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename="view_room"))
    client.force_login(staff)
    room = Room.objects.create(name="ops")
    assert client.post(f"/admin/chat/room/{room.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Room.objects.exists()


@pytest.mark.parametrize(
    "address",
    [
        "/admin/",
        "/admin/chat/room/",
        "/admin/chat/room/?q=busy",
        "/admin/chat/room/add/",
        "/admin/chat/room/{room}/change/",
        "/admin/chat/room/{room}/delete/",
        "/admin/accounts/user/",
        "/admin/accounts/user/?q=user-7",
        "/admin/accounts/user/{user}/change/",
        "/admin/accounts/user/{user}/delete/",
        "/admin/autocomplete/?app_label=chat&model_name=room&field_name=members&term=user-7",
    ],
)
def test_admin_pages_read_few_users_and_rooms_and_no_events(
    administrator: Client, busy: Room, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    User.objects.bulk_create(User(username=f"user-{number}") for number in range(MANY))
    Room.objects.bulk_create(Room(name=f"room-{number}") for number in range(MANY))
    user = User.objects.get(username="user-7")
    Event.objects.filter(room=busy).update(user=user)
    busy.members.add(user)
    people, rooms, events = (record_loads(model, monkeypatch) for model in (User, Room, Event))
    with CaptureQueriesContext(connection) as queries:
        answer = administrator.get(address.format(room=busy.pk, user=user.pk))
    assert answer.status_code == 200
    assert len(people) <= PAGE, "users"
    assert len(rooms) <= PAGE, "rooms"
    assert events == []
    assert len(queries) < 20
