"""The database tables that the migrations create."""

import pytest
from django.core.management import call_command
from django.db import connection

from channelbox.chat.models import Event, Room


def room_only_indexes() -> list[str]:
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, Event._meta.db_table)
    return [name for name, made in constraints.items() if made["index"] and made["columns"] == ["room_id"]]


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_the_migration_that_drops_an_index_is_reversible() -> None:
    room = Room.objects.create(name="a")
    Event.objects.create(room=room, seq=1, sender="u:1", client_id="1", name="alice", text="hi", at=room.created_at)
    assert room_only_indexes() == []
    call_command("migrate", "chat", "0001", verbosity=0)
    try:
        assert len(room_only_indexes()) == 1
    finally:
        call_command("migrate", "chat", verbosity=0)
    assert room_only_indexes() == []
    assert Event.objects.get().text == "hi"
