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

    database = copies.sqlite_file()
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
            _removed(copies.make_room(copies.folder(), copies.needed(database)))
        copy, contents = copies.make(database, copies.folder())
        typer.echo(f"{copy} ({copy.stat().st_size / 1e6:,.1f} MB; {contents})")
        _removed(copies.remove_old(copies.folder(), settings.CHANNELBOX_BACKUPS_KEPT))


def _removed(old: list[Path]) -> None:
    for copy in old:
        typer.echo(f"Removed: {copy}")
