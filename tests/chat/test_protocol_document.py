"""docs/protocol.md lists every error, close code, event kind and HTTP status that a client may get, and no others."""

import json
import re
from pathlib import Path
from unittest.mock import Mock

import pytest
from django.db import OperationalError
from django.test import Client
from pytest_django import Settings

from channelbox.accounts.models import User
from channelbox.chat import permissions
from channelbox.chat.event_kinds import Kind
from channelbox.chat.models import Room
from channelbox.realtime.errors import Close, Code

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
# From browsers and the WebSocket protocol itself.
TRANSPORT_CLOSE_CODES = {1000, 1001, 1006, 1011}
NGINX_STATUSES = {429, 502, 503, 504}
STATUSES_BEFORE_DJANGO = {429, 502, 504}  # by nginx and by admission control (test_http_admission.py)


def section(heading: str) -> str:
    _, _, rest = DOCUMENT.partition(f"\n## {heading}\n")
    assert rest, f"there is no section {heading}"
    return rest.partition("\n## ")[0]


def rows(heading: str, first: str) -> list[list[str]]:
    """Return the cells of the table whose first column has this name."""
    table = section(heading).partition(f"| {first} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_documented_error_codes_match_the_source() -> None:
    table = rows("Errors", "Code")
    assert sorted(cells[0].strip("`") for cells in table) == sorted(Code)
    for cells in table:
        assert len(cells) == 3, cells
        assert all(cells), f"{cells[0]}: when it comes and what a client does"


def test_documented_close_codes_match_the_source() -> None:
    table = rows("Close codes", "Code")
    numbers = [int(number) for cells in table for number in re.findall(r"\b\d{4}\b", cells[0])]
    assert sorted(numbers) == sorted({*Close, *TRANSPORT_CLOSE_CODES})
    for cells in table:
        assert len(cells) == 3, cells
        assert all(cells), f"{cells[0]}: what it means and what a client does"


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_event_has_an_example(kind: Kind) -> None:
    assert f'{{"type": "{kind}", "seq": ' in section("Chat WebSocket")


@pytest.mark.django_db
def test_history_answers_with_the_documented_statuses(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELBOX_GUESTS = False
    Room.objects.create(name="open")
    Room.objects.create(name="closed", closed=True)
    documented = {
        int(number): cells[1].strip("`")
        for cells in rows("History over HTTP", "Status")
        for number in cells[0].split(", ")
    }
    seen: dict[int, str] = {}

    def ask(path: str, method: str = "get") -> None:
        answer = getattr(client, method)(f"/chat/api/rooms{path}")
        json = answer.headers["Content-Type"] == "application/json" and answer.json()
        seen[answer.status_code] = json["code"] if json else ""

    for path in ("", "/open/messages", "/open/events"):
        ask(path)
    client.force_login(User.objects.create(username="alice"))
    for what in ("messages", "events"):
        for room in ("closed", "missing", "no.such..room", "two%20words"):
            ask(f"/{room}/{what}")
        ask(f"/open/{what}?before=x")
        ask(f"/open/{what}", "post")
    ask("", "post")
    for error in (OperationalError, ZeroDivisionError):
        monkeypatch.setattr(permissions, "person_of", Mock(side_effect=error))
        ask("")
    assert seen == {status: code for status, code in documented.items() if status not in STATUSES_BEFORE_DJANGO}


def test_nginx_error_answers_have_the_documented_codes() -> None:
    errors = Path(__file__).parents[2] / "packaging/debian/nginx/errors"
    documented = {
        number: cells[1].strip("`") for cells in rows("History over HTTP", "Status") for number in cells[0].split(", ")
    }
    for status in NGINX_STATUSES:
        assert json.loads((errors / f"{status}.json").read_text())["code"] == documented[str(status)]
