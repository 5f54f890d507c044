"""The page on which users change their password."""

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


def test_a_new_password_ends_the_other_sessions_of_the_user(alice: User) -> None:
    here, elsewhere = signed_in(alice), signed_in(alice)
    assert here.get(reverse("accounts:password")).status_code == 200
    answer = change(here)
    assert answer["Location"] == reverse("accounts:password-changed")
    assert here.get(answer["Location"]).status_code == 200
    assert elsewhere.get(reverse("accounts:password")).status_code == 302
    alice.refresh_from_db()
    assert alice.check_password(NEW)


def test_a_wrong_old_password_is_refused(alice: User) -> None:
    answer = change(signed_in(alice), old="wrong")
    assert answer.status_code == 200
    assert answer.context["form"].errors["old_password"]
    alice.refresh_from_db()
    assert alice.check_password(OLD)


def test_a_weak_new_password_is_refused(alice: User) -> None:
    assert change(signed_in(alice), new="short").context["form"].errors["new_password2"]


def test_attempts_at_the_old_password_are_limited_for_each_user(alice: User, settings: Settings) -> None:
    settings.CHANNELBOX_SIGN_IN_NAME = 2
    client = signed_in(alice)
    for _ in range(2):
        assert change(client, old="wrong").status_code == 200
    answer = change(client)
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0
    assert change(signed_in(User.objects.create_user("bob", password=OLD))).status_code == 302


def test_a_guest_is_redirected_to_the_sign_in_page(client: Client) -> None:
    assert client.get(reverse("accounts:password"))["Location"].startswith(reverse("accounts:login"))


def test_the_admin_redirects_to_the_same_password_page() -> None:
    admin = User.objects.create_superuser("admin", password=OLD)
    assert signed_in(admin).get("/admin/password_change/")["Location"] == reverse("accounts:password")
