"""No room is named . or .. any more. Nothing changes in the database: a room that is named so stays, to be removed."""

from django.core.validators import RegexValidator
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chat", "0004_deleted_rooms")]

    operations = [
        migrations.AlterField(
            model_name="room",
            name="name",
            field=models.CharField(
                max_length=80,
                unique=True,
                validators=[
                    RegexValidator(
                        r"^(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]{1,80}\Z",
                        "Use 1 to 80 letters from A to Z, digits, hyphens, underscores or dots. "
                        "The names . and .. are not allowed.",
                    )
                ],
            ),
        ),
    ]
