"""The budget for catching up, of which each person has a share."""

import pytest
from channels.db import database_sync_to_async as in_database
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from tests.chat.process import Person, installation, people, return_connections, runtime

from channelbox.accounts.models import User
from channelbox.chat.models import Event, Room
from channelbox.chat.runtime import ChatRuntime

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = 900  # together most of a mebibyte
JOINS = 20


@pytest.fixture(autouse=True)
def budget(settings: Settings) -> None:
    """Make the budget smaller than what one person requests."""
    settings.CHANNELBOX_CATCH_UP_BYTES = 16 * 1024 * 1024


@in_database
def make(*names: str) -> list[str]:
    """Create the lobby with many events, and users with these names. Returns the keys of the users' sessions."""
    room = Room.objects.create(name="lobby", last_seq=EVENTS)
    Event.objects.bulk_create(
        Event(room=room, seq=seq, sender="g:x", client_id=str(seq), name="x", text="x" * 980, at=timezone.now())
        for seq in range(1, EVENTS + 1)
    )
    keys = []
    for name in names:
        client = Client()
        client.force_login(User.objects.create(username=name))
        keys.append(str(client.session.session_key))
    return keys


async def test_one_person_cannot_use_up_the_catch_up_budget_of_others(
    runtime: ChatRuntime, people: list[Person]
) -> None:
    alice, bob = await make("alice", "bob")
    resumed = []
    for _ in range(JOINS):
        person = Person("/ws/chat/lobby/?after=0", cookie=alice)
        people.append(person)
        resumed.append((await person.connect())["resumed"])
    assert resumed[0]
    assert not resumed[-1], "its own share is used up"
    person = Person("/ws/chat/lobby/?after=0", cookie=bob)
    people.append(person)
    assert (await person.connect())["resumed"]
    assert (await person.next("message", "gap"))["seq"] == 1
