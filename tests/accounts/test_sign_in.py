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


class CountingHasher(Argon2PasswordHasher):
    """A fast hasher that records each password that it hashes."""

    time_cost, memory_cost, parallelism = 1, 8, 1

    def encode(self, password: str, salt: str) -> str:
        HASHED.append(password)
        return super().encode(password, salt)

    def verify(self, password: str, encoded: str) -> bool:
        HASHED.append(password)
        return super().verify(password, encoded)


@pytest.fixture(autouse=True)
def fast_hasher(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = [f"{__name__}.CountingHasher"]


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password=PASSWORD)


def sign_in(
    client: Client, name: str = "alice", password: str = PASSWORD, next: str = "", address: str = "192.0.2.1"
) -> Any:
    body = {"username": name, "password": password, "next": next}
    return client.post(reverse("accounts:login"), body, REMOTE_ADDR=address)


def error_texts(answer: Any) -> list[str]:
    return [str(error) for error in answer.context["form"].non_field_errors()]


def test_signing_in_redirects_to_the_rooms(client: Client, alice: User) -> None:
    assert client.get(reverse("accounts:login")).status_code == 200
    answer = sign_in(client)
    assert answer.status_code == 302
    assert answer["Location"] == "/chat/"
    assert client.session["_auth_user_id"] == str(alice.pk)


def test_signing_in_replaces_the_session(client: Client, alice: User) -> None:
    session = client.session
    session["from"] = "before"
    session.save()
    before = client.session.session_key
    assert before
    sign_in(client)
    assert client.session.session_key != before
    assert not client.session.exists(before)


def test_signing_out_requires_post_and_ends_the_session(client: Client, alice: User) -> None:
    sign_in(client)
    session = client.session.session_key
    assert session
    assert client.get(reverse("accounts:logout")).status_code == 405
    answer = client.post(reverse("accounts:logout"))
    assert answer["Location"] == reverse("accounts:login")
    assert not client.session.exists(session)
    assert "_auth_user_id" not in client.session


def test_signing_in_and_out_requires_a_csrf_token(alice: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert sign_in(strict).status_code == 403
    assert strict.post(reverse("accounts:logout")).status_code == 403
    page = strict.get(reverse("accounts:login")).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    body = {"username": "alice", "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
    assert strict.post(reverse("accounts:login"), body).status_code == 302


def test_signing_in_redirects_to_the_next_page(client: Client, alice: User) -> None:
    page = client.get(reverse("accounts:login"), {"next": "/chat/room/ops/"}).content.decode()
    assert 'name="next" value="/chat/room/ops/"' in page
    assert sign_in(client, next="/chat/room/ops/")["Location"] == "/chat/room/ops/"


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"])
def test_signing_in_does_not_redirect_to_another_site(client: Client, alice: User, next: str) -> None:
    assert sign_in(client, next=next)["Location"] == "/chat/"


def test_all_failed_sign_ins_get_the_same_answer(client: Client, alice: User) -> None:
    User.objects.create_user("gone", password=PASSWORD, is_active=False)
    User.objects.create_user("unusable", password=None)
    answers = set()
    for name, password in [("alice", "wrong"), ("nobody", "wrong"), ("gone", PASSWORD), ("unusable", "wrong")]:
        HASHED.clear()
        answer = sign_in(client, name, password)
        answers.add((answer.status_code, *error_texts(answer), len(HASHED)))
    assert answers == {(200, "Incorrect name or password. Both are case-sensitive.", 1)}


def test_too_many_attempts_are_refused_with_a_retry_time(client: Client, alice: User, settings: Settings) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 2
    settings.CHANNELBOX_SIGN_IN_WINDOW = 120
    for _ in range(2):
        assert sign_in(client, password="wrong").status_code == 200
    HASHED.clear()
    answer = sign_in(client)
    assert answer.status_code == 429
    assert 60 < int(answer["Retry-After"]) <= 120
    assert error_texts(answer) == ["Too many attempts. Try again in 2 minutes."]
    assert HASHED == [], "not even the correct password is checked"
    assert "_auth_user_id" not in client.session


def test_attempts_with_an_unknown_name_are_limited_too(client: Client, settings: Settings) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 1
    settings.CHANNELBOX_SIGN_IN_WINDOW = 30
    sign_in(client, "nobody", "wrong")
    answer = sign_in(client, "nobody", "wrong")
    assert answer.status_code == 429
    assert re.fullmatch(r"Too many attempts\. Try again in \d+ seconds\.", error_texts(answer)[0])


def test_the_limit_of_one_address_does_not_affect_another(client: Client, alice: User, settings: Settings) -> None:
    settings.CHANNELBOX_SIGN_IN_ADDRESS = 2
    for n in range(3):
        sign_in(client, f"name{n}", "wrong", address="198.51.100.1")
    assert sign_in(client, address="198.51.100.1").status_code == 429
    assert sign_in(client, address="192.0.2.7").status_code == 302


def test_a_user_can_sign_in_while_a_script_guesses_their_password(
    client: Client, alice: User, settings: Settings
) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 2
    assert sign_in(client).status_code == 302
    client.post(reverse("accounts:logout"))
    statuses = [sign_in(Client(), password="wrong", address="192.0.2.1").status_code for _ in range(5)]
    assert statuses == [200, 200, 429, 429, 429]
    assert sign_in(client, address="192.0.2.1").status_code == 302, "the browser is known, at the script's address too"
    assert sign_in(Client(), address="198.51.100.7").status_code == 302, "a new browser at another address"
    assert sign_in(Client(), password="wrong", address="192.0.2.1").status_code == 429, "the script is still refused"


def test_a_distributed_attack_is_limited_but_known_browsers_sign_in(
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


def test_a_known_browser_has_a_limit_too(client: Client, alice: User, settings: Settings) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 2
    sign_in(client)
    statuses = [sign_in(client, password="wrong", address=f"198.51.100.{n}").status_code for n in range(4)]
    assert statuses == [200, 200, 429, 429]


def test_a_browser_is_known_only_for_names_that_signed_in_with_it(
    client: Client, alice: User, settings: Settings
) -> None:
    User.objects.create_user("bob", password=PASSWORD)
    sign_in(client)
    settings.CHANNELBOX_SIGN_IN_NAME = 1
    sign_in(Client(), "bob", "wrong")
    assert sign_in(client, "bob").status_code == 429
    assert sign_in(client, "bob", address="192.0.2.2").status_code == 302
    assert sign_in(client, "bob").status_code == 302, "now bob is known"
    assert sign_in(client, "alice").status_code == 302, "alice is still known"


@pytest.mark.parametrize("cookie", ["", "nonsense", "e30:1vN:x", "{}"])
def test_a_browser_cookie_without_a_valid_signature_is_ignored(
    client: Client, alice: User, settings: Settings, cookie: str
) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 1
    sign_in(Client(), password="wrong")
    client.cookies[known_browsers.COOKIE] = cookie
    assert sign_in(client).status_code == 429


def test_the_browser_cookie_is_hidden_from_scripts_and_other_pages(client: Client, alice: User) -> None:
    cookie = sign_in(client).cookies[known_browsers.COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["path"] == "/accounts/login/"
    assert "alice" not in cookie.value


def test_the_log_contains_addresses_but_no_entered_name(
    client: Client, alice: User, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNELBOX_SIGN_IN_ADDRESS = 2
    caplog.set_level("INFO", "channelbox.accounts")
    sign_in(client, password="wrong")
    sign_in(client, "typed-into-the-wrong-field", "x")
    sign_in(client)
    sign_in(client, address="192.0.2.2")
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("channelbox.")]
    assert logged == [
        "Failed sign-in from 192.0.2.1",
        "Failed sign-in from 192.0.2.1",
        "Sign-in refused for 300 s: too many attempts from 192.0.2.1 or with that name",
        "alice signed in from 192.0.2.2",
    ]


def test_the_admin_uses_the_same_sign_in_page(client: Client) -> None:
    answer = client.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0] == "/accounts/login/?next=/admin/"
    assert client.post("/admin/login/", {"username": "alice", "password": PASSWORD}).status_code == 302


def test_a_user_without_admin_access_gets_an_explanation(client: Client, alice: User) -> None:
    client.force_login(alice)
    page = client.get("/admin/", follow=True).content.decode()
    assert "alice, who doesn't have access to that page." in page
    assert "access to that page" not in Client().get("/admin/", follow=True).content.decode()


def test_the_sign_in_page_is_not_cached(client: Client) -> None:
    assert "no-store" in client.get(reverse("accounts:login"))["Cache-Control"]


def test_passwords_are_hashed_with_argon2id(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["channelbox.accounts.hashers.Argon2"]
    user = User.objects.create_user("alice", password=PASSWORD)
    assert user.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
