"""A cheap check, at each start of a process, that the database has the tables of this version."""

import logging
from contextlib import closing
from pathlib import Path

logger = logging.getLogger(__name__)


def require_tables() -> None:
    """Raise CliError when the database answers and lacks migrations of this version.

    systemd then starts the process again, after channelbox-migrate.service. A database that does not answer does not
    prevent the start: it may be back in a minute, most likely with the same tables as before.
    """
    from django.db import DatabaseError, InterfaceError

    from channelbox.cli.errors import CliError

    try:
        missing = missing_migrations()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("The database does not respond yet: %s", str(error).strip())
        return
    if missing:
        raise CliError(
            f"The database lacks migrations of this version. Missing: {len(missing)}; the first is {missing[0]}.",
            "channelbox-migrate.service applies them. If it failed, see: journalctl -u channelbox-migrate",
        )


def missing_migrations() -> list[str]:
    """Return the migrations on disk that the database has not recorded, as app.name."""
    from django.apps import apps

    from channelbox.cli.database_lock import own_connection

    on_disk = {
        (config.label, file.stem)
        for config in apps.get_app_configs()
        for file in (Path(config.path) / "migrations").glob("[0-9]*.py")
    }
    applied: set[tuple[str, str]] = set()
    with closing(own_connection()) as connection, connection.cursor() as cursor:
        if "django_migrations" in connection.introspection.table_names(cursor):
            cursor.execute("SELECT app, name FROM django_migrations")
            applied.update(cursor.fetchall())
    return [f"{label}.{name}" for label, name in sorted(on_disk - applied)]
