"""Pages are in English and left to right, whatever language the browser prefers."""

import re

import pytest
from django.contrib.auth.models import AbstractUser
from django.test import Client

from channelbox.accounts.models import User

pytestmark = pytest.mark.django_db

PAGES = [
    "/accounts/login/",
    "/accounts/password/",
    "/chat/",
    "/chat/room/north/",
    "/chat/dashboard/",
    "/admin/",
    "/no/such/page",
]


@pytest.fixture
def administrator(client: Client) -> AbstractUser:
    user = User.objects.create(username="admin", is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


@pytest.mark.parametrize("language", ["de", "ar", "de-CH,de;q=0.9,en;q=0.1", "fr;q=1, *;q=0.5", "zh-Hans", "x" * 600])
def test_every_page_is_in_english(client: Client, administrator: AbstractUser, language: str) -> None:
    usual_pages = {address: client.get(address) for address in PAGES}
    client.cookies["django_language"] = "ar"
    for address, usual in usual_pages.items():
        answer = client.get(address, headers={"Accept-Language": language})
        assert answer.status_code == usual.status_code
        assert re.search(r'<html[^>]*\blang="en', answer.text), address
        assert 'dir="rtl"' not in answer.text
        assert visible(answer.text) == visible(usual.text), address


@pytest.mark.parametrize("language", ["de", "ar"])
def test_form_errors_are_in_english(client: Client, language: str) -> None:
    """Django has translations of these errors in most languages."""
    headers = {"Accept-Language": language}
    answer = client.post("/accounts/login/", {"username": "", "password": ""}, headers=headers)
    assert "This field is required." in answer.text
    client.force_login(User.objects.create(username="alice", password="!"))
    answer = client.post("/accounts/password/", {"old_password": "x"}, headers=headers)
    assert "Your old password was entered incorrectly." in answer.text


def visible(page: str) -> str:
    """Return the page without the CSRF tokens, which differ between responses."""
    return re.sub(r'(name="csrfmiddlewaretoken" value=)"[^"]*"', r"\1", page)
