"""Access to the dashboard: its page, its socket and the link in the menu follow the same rule."""

import json
from typing import Any

import pytest
from channels.db import database_sync_to_async as in_database
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.test import Client
from pytest_django import Settings
from tests.chat.process import installation, return_connections, runtime  # noqa: F401 - fixtures

from channelbox.accounts import revocation
from channelbox.accounts.models import User
from channelbox.accounts.revocation import RevocationMonitor
from channelbox.asgi import application

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("runtime")]

PAGE = "/chat/dashboard/"


def visitor(who: str) -> Client:
    client = Client()
    if who != "guest":
        client.force_login(User.objects.create(username=who, is_staff=who == "staff"))
    return client


async def connect_as(client: Client) -> tuple[WebsocketCommunicator, dict[str, Any]]:
    """Connect. Returns the socket and its first frame."""
    cookie = client.cookies.get(django_settings.SESSION_COOKIE_NAME)
    headers = [(b"origin", b"http://localhost")]
    if cookie is not None:
        headers.append((b"cookie", f"{django_settings.SESSION_COOKIE_NAME}={cookie.value}".encode()))
    socket = WebsocketCommunicator(application, "/ws/dashboard/", headers=headers)
    await socket.connect(timeout=10)
    return socket, json.loads(await socket.receive_from(timeout=10))


@pytest.mark.parametrize(
    ("setting", "guests", "who", "status", "first"),
    [
        ("users", True, "guest", 200, "welcome"),
        ("users", False, "guest", 302, "sign_in"),
        ("users", False, "user", 200, "welcome"),
        ("users", False, "staff", 200, "welcome"),
        ("staff", True, "guest", 302, "sign_in"),
        ("staff", False, "guest", 302, "sign_in"),
        ("staff", True, "user", 403, "not_allowed"),
        ("staff", False, "staff", 200, "welcome"),
    ],
)
async def test_page_socket_and_menu_use_the_same_permissions(
    settings: Settings, setting: str, guests: bool, who: str, status: int, first: str
) -> None:
    settings.CHANNELBOX_DASHBOARD, settings.CHANNELBOX_GUESTS = setting, guests
    client = await in_database(visitor)(who)
    assert (await in_database(client.get)(PAGE)).status_code == status
    socket, frame = await connect_as(client)
    assert frame.get("type", frame.get("code")) == first
    await socket.disconnect()
    page = await in_database(client.get)("/accounts/login/")
    assert (f'href="{PAGE}"' in page.text) == (status == 200)


async def test_the_socket_closes_when_the_user_loses_staff_status(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELBOX_DASHBOARD = "staff"
    monkeypatch.setattr(revocation, "NEW_SECONDS", 0.05)
    socket, _ = await connect_as(await in_database(visitor)("staff"))
    await User.objects.aupdate(is_staff=False)
    RevocationMonitor.current().check_all()
    while True:
        message = await socket.receive_output(timeout=10)
        if message["type"] == "websocket.close":
            break
    assert (message["code"], message["reason"]) == (4003, "not_allowed")
