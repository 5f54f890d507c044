"""The tables as the migrations leave them."""

import pytest
from django.core.management import call_command
from django.db import connection

from channelbox.chat.models import Event, Room


def indexes_of_the_room_alone() -> list[str]:
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, Event._meta.db_table)
    return [name for name, made in constraints.items() if made["index"] and made["columns"] == ["room_id"]]


@pytest.mark.django_db
def test_every_model_is_as_its_migrations_leave_it() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_the_needless_index_goes_and_comes_back_with_the_migration() -> None:
    room = Room.objects.create(name="a")
    Event.objects.create(room=room, seq=1, sender="u:1", client_id="1", name="alice", text="hi", at=room.created_at)
    assert indexes_of_the_room_alone() == []
    call_command("migrate", "chat", "0001", verbosity=0)
    try:
        assert len(indexes_of_the_room_alone()) == 1
    finally:
        call_command("migrate", "chat", verbosity=0)
    assert indexes_of_the_room_alone() == []
    assert Event.objects.get().text == "hi"
