"""Rooms tell which of their numbers mean the same as before: an epoch, an installation's epoch, and a floor."""

from typing import Any

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

import channelbox.chat.epochs


def make(apps: Any, editor: BaseDatabaseSchemaEditor) -> None:
    """The only row; the database draws its epoch."""
    apps.get_model("chat", "Installation").objects.get_or_create(pk=1)


class Migration(migrations.Migration):
    dependencies = [("chat", "0002_one_index_less")]

    operations = [
        migrations.CreateModel(
            name="Installation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "epoch",
                    models.BigIntegerField(
                        db_default=channelbox.chat.epochs.Random64(),
                        help_text="Another one after a backup was restored: clients forget what they have.",
                    ),
                ),
                (
                    "database_oid",
                    models.BigIntegerField(
                        null=True, help_text="Of the PostgreSQL database that this row was in."
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="room",
            name="epoch",
            field=models.BigIntegerField(
                db_default=channelbox.chat.epochs.Random64(),
                editable=False,
                help_text="Tells this room from others that had its name or its key.",
            ),
        ),
        migrations.AddField(
            model_name="room",
            name="floor",
            field=models.BigIntegerField(
                db_default=1, default=1, editable=False, help_text="Events with lower numbers are no longer there."
            ),
        ),
        migrations.RunPython(make, migrations.RunPython.noop),
    ]
