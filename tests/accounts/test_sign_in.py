"""The sign-in page."""

import re
from typing import Any

import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from channelbox.accounts import known_browsers
from channelbox.accounts.models import User

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
HASHED: list[str] = []


class Counting(Argon2PasswordHasher):
    """Notes each password that it has worked on."""

    time_cost, memory_cost, parallelism = 1, 8, 1

    def encode(self, password: str, salt: str) -> str:
        HASHED.append(password)
        return super().encode(password, salt)

    def verify(self, password: str, encoded: str) -> bool:
        HASHED.append(password)
        return super().verify(password, encoded)


@pytest.fixture(autouse=True)
def quick(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = [f"{__name__}.Counting"]


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password=PASSWORD)


def sign_in(
    client: Client, name: str = "alice", password: str = PASSWORD, next: str = "", address: str = "192.0.2.1"
) -> Any:
    body = {"username": name, "password": password, "next": next}
    return client.post(reverse("accounts:login"), body, REMOTE_ADDR=address)


def words(answer: Any) -> list[str]:
    return [str(error) for error in answer.context["form"].non_field_errors()]


def test_it_works(client: Client, alice: User) -> None:
    assert client.get(reverse("accounts:login")).status_code == 200
    answer = sign_in(client)
    assert answer.status_code == 302
    assert answer["Location"] == "/chat/"
    assert client.session["_auth_user_id"] == str(alice.pk)


def test_a_session_from_before_is_not_the_session_afterwards(client: Client, alice: User) -> None:
    session = client.session
    session["from"] = "before"
    session.save()
    before = client.session.session_key
    assert before
    sign_in(client)
    assert client.session.session_key != before
    assert not client.session.exists(before)


def test_signing_out_ends_the_session_and_takes_a_post(client: Client, alice: User) -> None:
    sign_in(client)
    session = client.session.session_key
    assert session
    assert client.get(reverse("accounts:logout")).status_code == 405
    answer = client.post(reverse("accounts:logout"))
    assert answer["Location"] == reverse("accounts:login")
    assert not client.session.exists(session)
    assert "_auth_user_id" not in client.session


def test_signing_in_and_out_needs_the_token_of_the_page(alice: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert sign_in(strict).status_code == 403
    assert strict.post(reverse("accounts:logout")).status_code == 403
    page = strict.get(reverse("accounts:login")).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    body = {"username": "alice", "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
    assert strict.post(reverse("accounts:login"), body).status_code == 302


def test_it_leads_to_the_page_that_was_wanted(client: Client, alice: User) -> None:
    page = client.get(reverse("accounts:login"), {"next": "/chat/room/ops/"}).content.decode()
    assert 'name="next" value="/chat/room/ops/"' in page
    assert sign_in(client, next="/chat/room/ops/")["Location"] == "/chat/room/ops/"


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"])
def test_it_leads_nowhere_else(client: Client, alice: User, next: str) -> None:
    assert sign_in(client, next=next)["Location"] == "/chat/"


def test_unknown_name_wrong_password_and_no_access_look_alike(client: Client, alice: User) -> None:
    User.objects.create_user("gone", password=PASSWORD, is_active=False)
    User.objects.create_user("unusable", password=None)
    seen = set()
    for name, password in [("alice", "wrong"), ("nobody", "wrong"), ("gone", PASSWORD), ("unusable", "wrong")]:
        HASHED.clear()
        answer = sign_in(client, name, password)
        seen.add((answer.status_code, *words(answer), len(HASHED)))
    assert seen == {(200, "Incorrect name or password. Both are case-sensitive.", 1)}


def test_too_many_attempts_are_told_when_to_try_again(client: Client, alice: User, settings: Settings) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 2
    settings.CHANNELBOX_SIGN_IN_WINDOW = 120
    for _ in range(2):
        assert sign_in(client, password="wrong").status_code == 200
    HASHED.clear()
    answer = sign_in(client)
    assert answer.status_code == 429
    assert 60 < int(answer["Retry-After"]) <= 120
    assert words(answer) == ["Too many attempts. Try again in 2 minutes."]
    assert HASHED == [], "not even the right password is looked at"
    assert "_auth_user_id" not in client.session


def test_attempts_at_a_name_that_does_not_exist_are_counted_the_same(client: Client, settings: Settings) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 1
    settings.CHANNELBOX_SIGN_IN_WINDOW = 30
    sign_in(client, "nobody", "wrong")
    answer = sign_in(client, "nobody", "wrong")
    assert answer.status_code == 429
    assert re.fullmatch(r"Too many attempts\. Try again in \d+ seconds\.", words(answer)[0])


def test_other_people_sign_in_meanwhile(client: Client, alice: User, settings: Settings) -> None:
    settings.CHANNELBOX_SIGN_IN_ADDRESS = 2
    for n in range(3):
        sign_in(client, f"name{n}", "wrong", address="198.51.100.1")
    assert sign_in(client, address="198.51.100.1").status_code == 429
    assert sign_in(client, address="192.0.2.7").status_code == 302


def test_an_administrator_signs_in_while_a_script_guesses_at_the_name(
    client: Client, alice: User, settings: Settings
) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 2
    assert sign_in(client).status_code == 302
    client.post(reverse("accounts:logout"))
    statuses = [sign_in(Client(), password="wrong", address="192.0.2.1").status_code for _ in range(5)]
    assert statuses == [200, 200, 429, 429, 429]
    assert sign_in(client, address="192.0.2.1").status_code == 302, "the browser is known, at the script's address too"
    assert sign_in(Client(), address="198.51.100.7").status_code == 302, "a new browser at another address"
    assert sign_in(Client(), password="wrong", address="192.0.2.1").status_code == 429, "the script is no further"


def test_many_addresses_together_guess_no_more_than_one_name_has_and_known_browsers_get_in(
    client: Client, alice: User, settings: Settings
) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME_ANYWHERE = 5
    sign_in(client)
    HASHED.clear()
    for n in range(20):
        sign_in(Client(), password="wrong", address=f"198.51.100.{n}")
    assert len(HASHED) == 5
    assert sign_in(Client(), address="203.0.113.1").status_code == 429
    assert sign_in(client, address="203.0.113.1").status_code == 302


def test_a_known_browser_guesses_no_more_than_others(client: Client, alice: User, settings: Settings) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 2
    sign_in(client)
    statuses = [sign_in(client, password="wrong", address=f"198.51.100.{n}").status_code for n in range(4)]
    assert statuses == [200, 200, 429, 429]


def test_a_browser_is_known_for_the_names_that_signed_in_there_and_no_others(
    client: Client, alice: User, settings: Settings
) -> None:
    User.objects.create_user("bob", password=PASSWORD)
    sign_in(client)
    settings.CHANNELBOX_SIGN_IN_NAME = 1
    sign_in(Client(), "bob", "wrong")
    assert sign_in(client, "bob").status_code == 429
    assert sign_in(client, "bob", address="192.0.2.2").status_code == 302
    assert sign_in(client, "bob").status_code == 302, "now it is"
    assert sign_in(client, "alice").status_code == 302, "and alice still is"


@pytest.mark.parametrize("cookie", ["", "nonsense", "e30:1vN:x", "{}"])
def test_a_cookie_that_was_not_signed_here_is_none(
    client: Client, alice: User, settings: Settings, cookie: str
) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 1
    sign_in(Client(), password="wrong")
    client.cookies[known_browsers.COOKIE] = cookie
    assert sign_in(client).status_code == 429


def test_the_cookie_of_a_browser_is_kept_from_scripts_and_from_other_pages(client: Client, alice: User) -> None:
    cookie = sign_in(client).cookies[known_browsers.COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["path"] == "/accounts/login/"
    assert "alice" not in cookie.value


def test_the_journal_says_from_where_and_not_what_was_typed(
    client: Client, alice: User, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNELBOX_SIGN_IN_ADDRESS = 2
    caplog.set_level("INFO", "channelbox.accounts")
    sign_in(client, password="wrong")
    sign_in(client, "typed-into-the-wrong-field", "x")
    sign_in(client)
    sign_in(client, address="192.0.2.2")
    said = [record.getMessage() for record in caplog.records if record.name.startswith("channelbox.")]
    assert said == [
        "Failed sign-in from 192.0.2.1",
        "Failed sign-in from 192.0.2.1",
        "Sign-in refused for 300 s: too many attempts from 192.0.2.1 or with that name",
        "alice signed in from 192.0.2.2",
    ]


def test_the_administration_uses_the_same_door(client: Client) -> None:
    answer = client.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0] == "/accounts/login/?next=/admin/"
    assert client.post("/admin/login/", {"username": "alice", "password": PASSWORD}).status_code == 302


def test_who_may_not_administer_is_told_so(client: Client, alice: User) -> None:
    client.force_login(alice)
    page = client.get("/admin/", follow=True).content.decode()
    assert "alice, who doesn't have access to that page." in page
    assert "access to that page" not in Client().get("/admin/", follow=True).content.decode()


def test_the_page_is_not_cached(client: Client) -> None:
    assert "no-store" in client.get(reverse("accounts:login"))["Cache-Control"]


def test_passwords_are_kept_as_argon2id(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["channelbox.accounts.hashers.Argon2"]
    user = User.objects.create_user("alice", password=PASSWORD)
    assert user.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
