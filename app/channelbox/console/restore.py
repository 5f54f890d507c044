"""`channelbox restore`: a copy of a SQLite database put in its place, while nothing runs."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from channelbox.console import copies
from channelbox.console.backup import folder, sqlite_file
from channelbox.console.problem import Problem

SERVICES = ("channelbox-web@*", "channelbox-worker@*")
STOP = "systemctl stop channelbox.target"


def restore(
    copy: Annotated[
        Path | None, typer.Argument(help="One of `channelbox backup`. Without it: which there are.", show_default=False)
    ] = None,
) -> None:
    """Put a copy in the place of the database. The former one is kept beside it."""
    from channelbox.console.locks import database_lock

    database = sqlite_file()
    if database is None:
        raise Problem(
            "The database is PostgreSQL, which is restored on its own node.",
            "There, with channelbox stopped on every node: pg_restore --clean --if-exists --dbname channelbox FILE",
        )
    if copy is None:
        _list()
        return
    if not copy.is_absolute() and (folder() / copy).exists():
        copy = folder() / copy
    contents = copies.look_into(copy)
    _check_version(contents)
    with database_lock("migrate", 0, typer.echo):
        _check_unused(database)
        former = copies.put(copy, database)
    typer.echo(f"{database} is as it was in {copy.name} ({contents}).")
    if former is not None:
        typer.echo(f"What it was until now: {former}. Remove that when all is well.")
    typer.echo("Start again: systemctl start channelbox.target")


def _list() -> None:
    found = copies.newest_first(folder())
    if not found:
        raise Problem(f"There are no backups in {folder()}.", "One is made by: channelbox backup")
    for copy in found:
        typer.echo(f"{copy}\t{copy.stat().st_size / 1e6:,.1f} MB")


def _check_version(contents: copies.Contents) -> None:
    """An older copy is brought to this version at the next start; a newer one cannot be."""
    from django.db.migrations.loader import MigrationLoader

    newer = contents.migrations - set(MigrationLoader(None).disk_migrations)
    if newer:
        raise Problem(
            "The copy is of a newer version than this one: " + ", ".join(sorted(map(".".join, newer))),
            "Install that version first, then restore.",
        )


def _check_unused(database: Path) -> None:
    """Raises Problem while a process of this node may write to the database."""
    try:
        running = subprocess.run(
            ["systemctl", "list-units", "--no-legend", "--plain", "--state=active,activating,deactivating", *SERVICES],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split("\n")[:-1]
    except FileNotFoundError:
        running = []
    if running:
        raise Problem(f"{running[0].split()[0]} runs and would go on writing.", f"Stop it first: {STOP}")
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(database, timeout=2)) as connection:
            # Only who is alone with it may give up the write-ahead log.
            (mode,) = connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    except sqlite3.OperationalError:
        mode = "wal"
    except sqlite3.DatabaseError:
        return  # damaged: that is why
    if mode == "wal":
        raise Problem("Another process has the database open.", f"Stop it first: {STOP}")
