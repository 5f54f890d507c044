"""Who comes: sessions and users of many sockets at once."""

import datetime
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from channelbox.accounts import socket_auth
from channelbox.accounts.models import User
from channelbox.accounts.socket_auth import SocketAuth, ValidSession, session_key, valid_sessions
from channelbox.realtime.bus import Bus

pytestmark = pytest.mark.django_db


def signed_in(name: str) -> tuple[User, str]:
    """Somebody, and the key of a session of theirs."""
    user = User.objects.create_user(name, password="long enough 1")
    client = Client()
    client.force_login(user)
    assert client.session.session_key is not None
    return user, client.session.session_key


def test_a_crowd_costs_two_queries(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    people = dict(signed_in(f"member-{number}") for number in range(20))
    with django_assert_num_queries(2):
        found = valid_sessions(list(people.values()))
    assert {found[key].user: found[key].session.session_key for key in found} == people


def test_guests_have_a_session_and_no_user(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    session = SessionStore()
    session["guest"] = "key"
    session.create()
    assert session.session_key is not None
    with django_assert_num_queries(1):
        guest = valid_sessions([session.session_key])[session.session_key]
        assert guest.session["guest"] == "key"
    assert guest.user.is_anonymous


def test_a_session_that_is_over_is_none() -> None:
    _, key = signed_in("alice")
    Session.objects.update(expire_date=timezone.now() - datetime.timedelta(seconds=1))
    assert valid_sessions([key]) == {}


def test_a_session_of_somebody_deactivated_or_with_a_new_password_is_none() -> None:
    (alice, alices), (bob, bobs), (_, charlies) = signed_in("alice"), signed_in("bob"), signed_in("charlie")
    User.objects.filter(pk=alice.pk).update(is_active=False)
    bob.set_password("another one 2")
    bob.save()
    assert valid_sessions([alices, bobs, charlies]).keys() == {charlies}


@pytest.mark.parametrize(
    ("cookie", "key"),
    [
        ("{name}=abc123", "abc123"),
        ("other=1; {name}=abc123; more=2", "abc123"),
        ("{name}=", None),
        ("{name}=a b", None),
        ("{name}=%00", None),
        ("{name}=\x00\x00", None),
        ("{name}=" + "a" * 41, None),
        ("{name}=\xe4\xe4", None),
        ("other=1", None),
    ],
)
def test_only_what_can_be_a_key_is_looked_up(cookie: str, key: str | None, settings: Settings) -> None:
    """One odd key in a look-up would fail it for all."""
    headers = [(b"host", b"x"), (b"cookie", cookie.format(name=settings.SESSION_COOKIE_NAME).encode("latin1"))]
    assert session_key(headers) == key
    assert session_key(headers[:1]) is None


def away(keys: list[str]) -> dict[str, ValidSession]:
    raise OperationalError("the database is away")


over = threading.Event()


def silent(keys: list[str]) -> dict[str, ValidSession]:
    over.wait(10)
    return {}


@pytest.mark.parametrize("looked_up", [away, silent])
async def test_who_comes_while_nobody_can_be_looked_up_is_told_to_try_later(
    monkeypatch: pytest.MonkeyPatch, bus: Bus, looked_up: Callable[[list[str]], dict[str, ValidSession]]
) -> None:
    over.clear()
    monkeypatch.setattr(socket_auth, "valid_sessions", looked_up)
    monkeypatch.setattr("channelbox.realtime.join_deadline.ENTER_SECONDS", 0.2)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nobody may be let in")

    headers = [(b"cookie", b"channelbox_session=abc123")]
    socket = WebsocketCommunicator(SocketAuth(application), "/", headers=headers)
    connected, _ = await socket.connect(timeout=2)
    assert connected
    assert json.loads(await socket.receive_from())["code"] == "try_later"
    assert (await socket.receive_output())["code"] == 1013
    over.set()
