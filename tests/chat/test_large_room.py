"""A room of 150,000 events: its pages cost no more than those of a small one, and its rows are removed in batches."""

from collections.abc import AsyncIterator

import pytest
from channels.db import database_sync_to_async as in_database
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from tests.chat.many_messages import insert_messages
from tests.chat.test_admin import record_loads

from channelbox.accounts.models import User
from channelbox.chat import cleanup
from channelbox.chat.cleanup import Cleanup, remove_batch
from channelbox.chat.models import Event, Room
from channelbox.realtime.bus import Bus

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 150_000
MAX_QUERIES = 20  # of a page, and of a transaction that removes rows
MAX_PAGE = 200  # events that one page may read


@pytest.fixture
def room() -> Room:
    room = Room.objects.create(name="lobby", title="The lobby")
    insert_messages(room, MANY)
    return room


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    yield Bus.current()
    await Bus.current().stop()


@pytest.mark.parametrize(
    "address",
    [
        "/admin/chat/room/",
        "/admin/chat/room/{room}/change/",
        "/admin/chat/room/{room}/delete/",
        "/chat/",
        "/chat/room/lobby/",
        "/chat/api/rooms",
        "/chat/api/rooms/lobby/messages?before=75000",
        "/chat/api/rooms/lobby/events?after=75000&limit=200",
    ],
)
def test_page_queries_do_not_grow_with_the_room(
    client: Client, monkeypatch: pytest.MonkeyPatch, address: str, request: pytest.FixtureRequest
) -> None:
    client.force_login(
        User.objects.create(username="admin", password=make_password(None), is_staff=True, is_superuser=True)
    )
    small = Room.objects.create(name="lobby", title="The lobby")
    insert_messages(small, 300)
    costs = [_queries(client, address.format(room=small.pk))]
    Room.objects.all().update(name="former")
    room: Room = request.getfixturevalue("room")
    events = record_loads(Event, monkeypatch)
    costs.append(_queries(client, address.format(room=room.pk)))
    assert costs[1] <= costs[0] <= MAX_QUERIES
    assert len(events) <= MAX_PAGE + 1


def _queries(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(address).status_code == 200
    return len(queries)


async def test_rows_of_a_large_room_are_removed_in_limited_batches(
    room: Room, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    def remove_and_count(limit: int) -> int | None:
        with CaptureQueriesContext(connection) as queries:
            removed = remove_batch(limit)
        assert len(queries) <= MAX_QUERIES
        if removed is not None:
            batches.append(removed)
        return removed

    def delete() -> int:
        with CaptureQueriesContext(connection) as queries:
            room.delete()
        return len(queries)

    monkeypatch.setattr(cleanup, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(cleanup, "BATCH_SECONDS", 10)  # so that batches reach their maximum on a slow machine too
    monkeypatch.setattr(cleanup, "_remove_batch", in_database(remove_and_count))
    assert await in_database(delete)() <= MAX_QUERIES
    assert not await Room.objects.aexists()
    assert await Event.objects.acount() == MANY, "deleting does not wait for them"
    await Cleanup().clean()
    assert max(batches) <= cleanup.MAX_BATCH
    assert sum(batches) == MANY + 1
    assert not await Event.objects.aexists()
