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
                        "Letters, digits, - _ and . only, 1 to 80 of them, and not . or .. alone.",
                    )
                ],
            ),
        ),
    ]
