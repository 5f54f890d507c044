"""Authentication of sockets: looks up the sessions and users of many connections at once."""

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
    """Return a new user and the key of a session of theirs."""
    user = User.objects.create_user(name, password="long enough 1")
    client = Client()
    client.force_login(user)
    assert client.session.session_key is not None
    return user, client.session.session_key


def test_many_sessions_are_read_with_two_queries(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    people = dict(signed_in(f"member-{number}") for number in range(20))
    with django_assert_num_queries(2):
        found = valid_sessions(list(people.values()))
    assert {found[key].user: found[key].session.session_key for key in found} == people


def test_a_guest_has_a_session_and_an_anonymous_user(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    session = SessionStore()
    session["guest"] = "key"
    session.create()
    assert session.session_key is not None
    with django_assert_num_queries(1):
        guest = valid_sessions([session.session_key])[session.session_key]
        assert guest.session["guest"] == "key"
    assert guest.user.is_anonymous


def test_an_expired_session_is_not_valid() -> None:
    _, key = signed_in("alice")
    Session.objects.update(expire_date=timezone.now() - datetime.timedelta(seconds=1))
    assert valid_sessions([key]) == {}


def test_deactivation_or_a_new_password_invalidates_a_session() -> None:
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
def test_only_a_well_formed_session_key_is_looked_up(cookie: str, key: str | None, settings: Settings) -> None:
    """One malformed key would make the look-up fail for all connections in it."""
    headers = [(b"host", b"x"), (b"cookie", cookie.format(name=settings.SESSION_COOKIE_NAME).encode("latin1"))]
    assert session_key(headers) == key
    assert session_key(headers[:1]) is None


def failing(keys: list[str]) -> dict[str, ValidSession]:
    raise OperationalError("the database is down")


ended = threading.Event()


def hanging(keys: list[str]) -> dict[str, ValidSession]:
    ended.wait(10)
    return {}


@pytest.mark.parametrize("lookup", [failing, hanging])
async def test_a_connection_gets_try_later_when_sessions_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, bus: Bus, lookup: Callable[[list[str]], dict[str, ValidSession]]
) -> None:
    ended.clear()
    monkeypatch.setattr(socket_auth, "valid_sessions", lookup)
    monkeypatch.setattr("channelbox.realtime.join_deadline.ENTER_SECONDS", 0.2)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("no connection may be admitted")

    headers = [(b"cookie", b"channelbox_session=abc123")]
    socket = WebsocketCommunicator(SocketAuth(application), "/", headers=headers)
    connected, _ = await socket.connect(timeout=2)
    assert connected
    assert json.loads(await socket.receive_from())["code"] == "try_later"
    assert (await socket.receive_output())["code"] == 1013
    ended.set()
