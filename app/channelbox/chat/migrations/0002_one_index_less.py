"""An event's room needs no index of its own: both constraints of an event begin with the room."""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def _of_room_alone(editor: BaseDatabaseSchemaEditor, table: str) -> list[str]:
    """The names of the indexes that Django made for the foreign key."""
    with editor.connection.cursor() as cursor:
        constraints = editor.connection.introspection.get_constraints(cursor, table)
    return [
        name
        for name, made in constraints.items()
        if made["index"] and not made["unique"] and made["columns"] == ["room_id"]
    ]


def drop(apps: Any, editor: BaseDatabaseSchemaEditor) -> None:
    """By hand: for SQLite, Django would copy the table, which may hold millions of events.

    PostgreSQL waits for whoever reads the table, a backup perhaps: concurrently, so that nobody waits for PostgreSQL.
    """
    how = "CONCURRENTLY" if editor.connection.vendor == "postgresql" else ""
    for name in _of_room_alone(editor, apps.get_model("chat", "Event")._meta.db_table):
        editor.execute(f"DROP INDEX {how} {editor.quote_name(name)}")


def make(apps: Any, editor: BaseDatabaseSchemaEditor) -> None:
    """Again as it was."""
    table = apps.get_model("chat", "Event")._meta.db_table
    editor.execute(f"CREATE INDEX {editor.quote_name(f'{table}_room_id')} ON {editor.quote_name(table)} (room_id)")


class Migration(migrations.Migration):
    atomic = False  # nothing is concurrent in a transaction
    dependencies = [("chat", "0001_initial")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(drop, make)],
            state_operations=[
                migrations.AlterField(
                    model_name="event",
                    name="room",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="events",
                        to="chat.room",
                    ),
                )
            ],
        )
    ]
