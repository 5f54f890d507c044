"""`channelbox backup`: a copy of a SQLite database, made while it is in use."""

from pathlib import Path
from typing import Annotated

import typer

from channelbox.console import copies
from channelbox.console.problem import Problem


def backup(
    if_sqlite: Annotated[
        bool, typer.Option("--if-sqlite", help="Do nothing where the database is PostgreSQL (for the timer).")
    ] = False,
) -> None:
    """Copy the database into the folder of backups, look whether the copy is sound, and remove the oldest ones."""
    from django.conf import settings

    from channelbox.console.locks import database_lock

    database = sqlite_file()
    if database is None:
        if if_sqlite:
            typer.echo("The database is PostgreSQL: its own node makes the copies.")
            return
        raise Problem(
            "The database is PostgreSQL, which is copied on its own node.",
            "There: systemctl start postgresql-channelbox-backup",
        )
    with database_lock("backup", 0, typer.echo):
        if database.exists():
            _removed(copies.make_room(folder(), copies.needed(database)))
        copy, contents = copies.make(database, folder())
        typer.echo(f"{copy} ({copy.stat().st_size / 1e6:,.1f} MB; {contents})")
        _removed(copies.remove_old(folder(), settings.CHANNELBOX_BACKUPS_KEPT))


def _removed(copies: list[Path]) -> None:
    for copy in copies:
        typer.echo(f"Removed: {copy}")


def sqlite_file() -> Path | None:
    """The file of the database; None when it is PostgreSQL."""
    from django.db import connection

    return Path(connection.settings_dict["NAME"]) if connection.vendor == "sqlite" else None


def folder() -> Path:
    """Of the backups: the one that is set, else one beside the database."""
    from django.conf import settings

    return Path(settings.CHANNELBOX_BACKUP_DIR or (sqlite_file() or Path()).parent / "backups")
