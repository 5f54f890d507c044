"""Rooms are marked when they are deleted, and their rows removed later; their names are remembered for a while."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chat", "0003_epochs_and_floors")]

    operations = [
        migrations.CreateModel(
            name="DeletedName",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=80, unique=True)),
                ("deleted_at", models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.AddField(
            model_name="room",
            name="deleted_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddIndex(
            model_name="room",
            index=models.Index(
                condition=models.Q(("deleted_at__isnull", False)), fields=["deleted_at"], name="room_deleted"
            ),
        ),
    ]
