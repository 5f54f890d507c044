"""`channelbox backup`: a copy of a SQLite database, made while it is in use."""

from pathlib import Path
from typing import Annotated

import typer

from channelbox.cli import sqlite_backup
from channelbox.cli.errors import CliError


def backup(
    if_sqlite: Annotated[
        bool, typer.Option("--if-sqlite", help="Do nothing if the database is PostgreSQL (for the timer).")
    ] = False,
) -> None:
    """Copy a SQLite database to the backup folder, verify the copy, and remove the oldest backups."""
    from django.conf import settings

    from channelbox.cli.database_lock import database_lock

    database = sqlite_backup.sqlite_file()
    if database is None:
        if if_sqlite:
            typer.echo("The database is PostgreSQL; it is backed up on its own node.")
            return
        raise CliError(
            "The database is PostgreSQL, which is backed up on its own node.",
            "On that node, run: systemctl start postgresql-channelbox-backup",
        )
    with database_lock("backup", 0, typer.echo):
        if database.exists():
            _removed(sqlite_backup.make_room(sqlite_backup.folder(), sqlite_backup.needed(database)))
        copy, contents = sqlite_backup.make(database, sqlite_backup.folder())
        typer.echo(f"{copy} ({copy.stat().st_size / 1e6:,.1f} MB; {contents})")
        _removed(sqlite_backup.remove_old(sqlite_backup.folder(), settings.CHANNELBOX_BACKUPS_KEPT))


def _removed(old: list[Path]) -> None:
    for copy in old:
        typer.echo(f"Removed: {copy}")
