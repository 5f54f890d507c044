"""`channelbox restore`: put a copy of a SQLite database in its place, while nothing runs."""

import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from channelbox.cli import sqlite_backup
from channelbox.cli.errors import CliError

SERVICES = ("channelbox-web@*", "channelbox-worker@*")
STOP = "systemctl stop channelbox.target"
# STOP returns before the processes have stopped; their units allow 30 s.
MAX_STOPPING_SECONDS = 40.0


def restore(
    copy: Annotated[
        Path | None,
        typer.Argument(help="A backup made by `channelbox backup`. Without it, list the backups.", show_default=False),
    ] = None,
) -> None:
    """Replace a SQLite database with a backup. The former database is kept beside it."""
    from channelbox.cli.database_lock import database_lock

    database = sqlite_backup.sqlite_file()
    if database is None:
        raise CliError(
            "The database is PostgreSQL, which is restored on its own node.",
            "Stop channelbox on every node, then run on the PostgreSQL node: sudo -u postgres "
            "pg_restore --clean --if-exists --create --exit-on-error --dbname postgres FILE",
        )
    if copy is None:
        _list()
        return
    if not copy.is_absolute():
        if len(copy.parts) > 1:  # the command runs in another directory than its caller
            raise CliError(f"{copy} is a relative path.", "Give an absolute path, or only the file name of a backup.")
        copy = sqlite_backup.folder() / copy
    contents = sqlite_backup.inspect(copy)
    _check_version(contents)
    with database_lock("migrate", 0, typer.echo):
        _check_unused(database)
        former = sqlite_backup.replace(copy, database)
    typer.echo(f"Restored {database} from {copy.name} ({contents}).")
    if former is not None:
        typer.echo(f"The former database is kept as {former}. Remove it when everything works.")
    typer.echo("Start channelbox again with: systemctl start channelbox.target")


def _list() -> None:
    found = sqlite_backup.newest_first(sqlite_backup.folder())
    if not found:
        raise CliError(f"There are no backups in {sqlite_backup.folder()}.", "Make one with: channelbox backup")
    for copy in found:
        typer.echo(f"{copy}\t{copy.stat().st_size / 1e6:,.1f} MB")


def _check_version(contents: sqlite_backup.Contents) -> None:
    """Raise CliError for a copy of a newer version. An older one is migrated at the next start."""
    from django.db.migrations.loader import MigrationLoader

    newer = contents.migrations - set(MigrationLoader(None).disk_migrations)
    if newer:
        raise CliError(
            "The backup was made by a newer version of channelbox. Unknown migrations: "
            + ", ".join(sorted(map(".".join, newer))),
            "Install that version first, then restore.",
        )


def _check_unused(database: Path) -> None:
    """Raise CliError while a process of this node may write to the database."""
    end = time.monotonic() + MAX_STOPPING_SECONDS
    while (running := _running()) and all(state == "deactivating" for _, state in running) and time.monotonic() < end:
        time.sleep(0.5)
    if running:
        raise CliError(f"{running[0][0]} is running and would keep writing to the database.", f"Stop it first: {STOP}")
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(database, timeout=2)) as connection:
            # Only a connection that is alone with the database can end its write-ahead log.
            (mode,) = connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    except sqlite3.OperationalError:
        mode = "wal"
    except sqlite3.DatabaseError:
        return  # damaged, which is why it is restored
    if mode == "wal":
        raise CliError("Another process has the database open.", f"Stop it first: {STOP}")


def _running() -> list[tuple[str, str]]:
    """Return the units of processes that may write, each with its state."""
    states = "--state=active,activating,deactivating"
    try:
        output = subprocess.run(
            ["systemctl", "list-units", "--no-legend", "--plain", states, *SERVICES],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    except FileNotFoundError:
        return []
    return [(words[0], words[2]) for line in output.splitlines() if len(words := line.split()) > 2]
