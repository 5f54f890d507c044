"""Rooms in the administration."""

from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.http import HttpRequest
from django.test import Client

from channelbox.accounts.models import User
from channelbox.chat.admin import RoomAdmin
from channelbox.chat.models import Room

pytestmark = pytest.mark.django_db


@pytest.fixture
def administrator(client: Client) -> Client:
    password = make_password(None)
    client.force_login(User.objects.create(username="admin", password=password, is_staff=True, is_superuser=True))
    return client


def test_a_room_is_edited(administrator: Client) -> None:
    room = Room.objects.create(name="ops")
    member = User.objects.create(username="ann")
    body = {"name": "ops", "title": "Operations", "limit": "", "members_only": "on", "members": [member.pk]}
    answer = administrator.post(f"/admin/chat/room/{room.pk}/change/", body)
    assert answer.status_code == 302, answer.content.decode()
    room.refresh_from_db()
    assert (room.title, room.members_only, list(room.members.all())) == ("Operations", True, [member])


def test_a_room_is_added(administrator: Client) -> None:
    answer = administrator.post("/admin/chat/room/add/", {"name": "ops", "title": "", "limit": ""})
    assert answer.status_code == 302, answer.content.decode()
    assert Room.objects.get().name == "ops"


def test_editing_does_not_turn_back_the_numbers_of_messages(
    administrator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room.objects.create(name="ops")
    construct = RoomAdmin.get_form

    def a_message_is_stored_meanwhile(
        self: RoomAdmin, request: HttpRequest, obj: Room | None = None, **kwargs: Any
    ) -> Any:
        Room.objects.filter(pk=room.pk).update(last_seq=17)
        return construct(self, request, obj, **kwargs)

    monkeypatch.setattr(RoomAdmin, "get_form", a_message_is_stored_meanwhile)
    administrator.post(f"/admin/chat/room/{room.pk}/change/", {"name": "ops", "title": "Operations", "limit": ""})
    room.refresh_from_db()
    assert (room.title, room.last_seq) == ("Operations", 17)
