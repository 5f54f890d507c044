"""The API answers every request with JSON, and no request makes it fail."""

import string
from typing import Any
from urllib.parse import quote

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings
from tests.chat.many_messages import insert_messages

from channelbox.accounts.models import User
from channelbox.chat import permissions
from channelbox.chat.models import Event, Room
from channelbox.version import package_version

pytestmark = pytest.mark.django_db

ADDRESSES = ["/chat/api/rooms", "/chat/api/rooms/north/messages", "/chat/api/rooms/north/events"]


@pytest.fixture(autouse=True)
def _closed_to_guests(settings: Settings) -> None:
    settings.CHANNELBOX_GUESTS = False


@pytest.fixture
def alice(client: Client) -> User:
    user = User.objects.create(username="alice")
    client.force_login(user)
    insert_messages(Room.objects.create(name="north"), 20, user)
    return user


def is_json(answer: Any) -> bool:
    return answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("address", [*ADDRESSES, "/chat/api/nothing"])
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options", "trace"])
def test_an_unsupported_method_gets_405_with_the_allowed_ones(method: str, address: str) -> None:
    """Also without a CSRF token."""
    answer = getattr(Client(enforce_csrf_checks=True), method)(address)
    assert answer.status_code == 405
    assert is_json(answer)
    assert answer.json()["code"] == "invalid"
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "address",
    [
        "/chat/api/",
        "/chat/api/rooms/",
        "/chat/api/rooms/a b/messages",
        "/chat/api/rooms/%ff/events",
        "/chat/api/rooms/../messages",
    ],
)
def test_an_unknown_address_gets_404_as_json(client: Client, alice: User, address: str) -> None:
    answer = client.get(address)
    assert (answer.status_code, is_json(answer), answer.json()["code"]) == (404, True, "no_room")


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_database_outage_gets_503_as_json(
    client: Client, alice: User, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("the server is gone")

    monkeypatch.setattr(permissions, "person_of", fail)
    answer = client.get(address)
    assert (answer.status_code, is_json(answer), answer.json()["code"]) == (503, True, "try_later")


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_internal_error_gets_500_as_json_and_is_logged(
    client: Client, alice: User, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(permissions, "person_of", fail)
    answer = client.get(address)
    assert (answer.status_code, is_json(answer), answer.json()["code"]) == (500, True, "try_later")
    assert "ZeroDivisionError" in caplog.text


def test_too_many_query_parameters_are_refused(client: Client, alice: User) -> None:
    answer = client.get(ADDRESSES[1] + "?" + "&".join(f"a{number}=1" for number in range(2000)))
    assert (answer.status_code, is_json(answer), answer.json()["code"]) == (400, True, "invalid")


@pytest.mark.parametrize("address", ADDRESSES)
def test_guests_can_read_if_guests_are_enabled(client: Client, settings: Settings, address: str) -> None:
    Room.objects.create(name="north")
    assert client.get(address).status_code == 401
    settings.CHANNELBOX_GUESTS = True
    assert client.get(address).status_code == 200
    client.force_login(User.objects.create(username="bob"))
    assert client.get(address).status_code == 200
    User.objects.update(is_active=False)  # a deactivated user is a guest
    assert client.get(address).status_code == 200


# Digits of any length and of other scripts, characters that databases refuse, bytes that are not UTF-8, and cursors
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str), st.integers(0, 30).map(str), st.text("0123456789", max_size=25)
)
TEXTS = st.one_of(
    NUMBERS,
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.text(string.printable, max_size=30),
    st.sampled_from(["\0", "²", "٣", "%", "_", "\\", "'", "\U0010ffff", "x" * 5000]),
    st.from_regex(r"\A[0-9]-[0-9]{1,20}-[0-9]{1,20}\Z"),
)
VALUES = st.one_of(TEXTS.map(quote), st.binary(max_size=10).map(quote))
# As Python parses cookies: bytes, and escapes within quotes
COOKIES = st.one_of(
    st.binary(max_size=40).map(lambda some: some.decode("latin1")),
    st.sampled_from(["abcdefgh\\000", "x" * 32, "x" * 5000, "sessionid\\377"]),
)
WORDS = st.sampled_from(["before", "after", "limit", "search", "other"])


@example(address=ADDRESSES[1], parameters=[], cookie="abcdefgh\\000")
@hypothesis_settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    address=st.sampled_from(ADDRESSES),
    parameters=st.lists(st.tuples(WORDS, VALUES), max_size=5),
    cookie=st.one_of(st.none(), COOKIES),
)
def test_no_query_or_cookie_makes_a_request_fail(
    client: Client, alice: User, address: str, parameters: list[tuple[str, str]], cookie: str | None
) -> None:
    query = "&".join(f"{word}={value}" for word, value in parameters)
    headers = {} if cookie is None else {"Cookie": f'channelbox_session="{cookie}"'}
    answer = (client if cookie is None else Client()).get(f"{address}?{query}", headers=headers)
    assert answer.status_code in ({200, 400} if cookie is None else {401})
    assert is_json(answer)
    content = answer.json()
    assert ("error" in content) == (answer.status_code != 200)
    if answer.status_code == 200 and "rooms" not in content:
        numbers = [event["seq"] for name in ("messages", "events") for event in content.get(name, ())]
        assert numbers == sorted(set(numbers))


def test_answers_contain_the_versions_and_a_rooms_epoch_and_floor(client: Client, alice: User) -> None:
    room = Room.objects.create(name="lobby", last_seq=5, floor=4)
    for seq in (3, 4, 5):
        Event.objects.create(
            room=room, seq=seq, sender="g:x", client_id=str(seq), name="x", text="hi", at=timezone.now()
        )
    rooms = client.get("/chat/api/rooms").json()
    for kind in ("events", "messages"):
        answer = client.get(f"/chat/api/rooms/lobby/{kind}").json()
        assert [event["seq"] for event in answer[kind]] == [4, 5], "events below the floor are left out"
        assert (answer["epoch"], answer["floor"]) == (room.full_epoch, 4)
        assert (answer["protocol"], answer["version"]) == (2, package_version())
    assert (rooms["protocol"], rooms["version"]) == (2, package_version())
    assert {listed["name"]: listed["epoch"] for listed in rooms["rooms"]}["lobby"] == room.full_epoch
