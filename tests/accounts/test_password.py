"""Changing the password."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from channelbox.accounts.models import User

pytestmark = pytest.mark.django_db
OLD, NEW = "correct horse battery", "another horse battery"


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password=OLD)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def change(client: Client, old: str = OLD, new: str = NEW) -> Any:
    body = {"old_password": old, "new_password1": new, "new_password2": new}
    return client.post(reverse("accounts:password"), body)


def test_it_works_and_signs_out_everywhere_else(alice: User) -> None:
    here, elsewhere = signed_in(alice), signed_in(alice)
    assert here.get(reverse("accounts:password")).status_code == 200
    answer = change(here)
    assert answer["Location"] == reverse("accounts:password-changed")
    assert here.get(answer["Location"]).status_code == 200
    assert elsewhere.get(reverse("accounts:password")).status_code == 302
    alice.refresh_from_db()
    assert alice.check_password(NEW)


def test_the_old_one_is_asked_for(alice: User) -> None:
    answer = change(signed_in(alice), old="wrong")
    assert answer.status_code == 200
    assert answer.context["form"].errors["old_password"]
    alice.refresh_from_db()
    assert alice.check_password(OLD)


def test_a_weak_one_is_refused(alice: User) -> None:
    assert change(signed_in(alice), new="short").context["form"].errors["new_password2"]


def test_a_stolen_session_cannot_try_passwords_for_ever(alice: User, settings: Settings) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 2
    client = signed_in(alice)
    for _ in range(2):
        assert change(client, old="wrong").status_code == 200
    answer = change(client)
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0
    assert change(signed_in(User.objects.create_user("bob", password=OLD))).status_code == 302


def test_who_is_not_signed_in_signs_in_first(client: Client) -> None:
    assert client.get(reverse("accounts:password"))["Location"].startswith(reverse("accounts:login"))


def test_the_administration_uses_the_same_page() -> None:
    admin = User.objects.create_superuser("admin", password=OLD)
    assert signed_in(admin).get("/admin/password_change/")["Location"] == reverse("accounts:password")
