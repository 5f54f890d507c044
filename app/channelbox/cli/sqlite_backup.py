"""Copies of a SQLite database: made while it is in use, verified before they count, the oldest removed."""

import datetime
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from channelbox.cli.errors import CliError

PATTERN = "channelbox-????????-??????.sqlite3"  # with the time in UTC: the names sort by age
SPARE = 64 * 1024 * 1024  # bytes that remain free after a copy


@dataclass(frozen=True)
class Contents:
    """The contents of a database. `migrations`: (app, name) of each that was applied."""

    people: int
    rooms: int
    events: int
    migrations: frozenset[tuple[str, str]]

    def __str__(self) -> str:
        return f"users: {self.people}, rooms: {self.rooms}, messages and other events: {self.events}"


def sqlite_file() -> Path | None:
    """Return the file of the database; None for PostgreSQL."""
    from django.db import connection

    return Path(connection.settings_dict["NAME"]) if connection.vendor == "sqlite" else None


def folder() -> Path:
    """Return the folder of the backups: the configured one, else one beside the database."""
    from django.conf import settings

    return Path(settings.CHANNELBOX_BACKUP_DIR or (sqlite_file() or Path()).parent / "backups")


def make(database: Path, folder: Path) -> tuple[Path, Contents]:
    """Copy the database as it is at one moment, while others write to it. Return the verified copy and its contents.

    The caller must hold a lock, so that one copy is made at a time. Raises CliError when there is no database or no
    space for a copy, or when the copy is not sound; it is then removed.
    """
    if not database.exists():
        raise CliError(f"The database {database} does not exist yet.", "Run: channelbox migrate")
    with _errors_explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_space(folder, needed(database))
        copy = folder / f"channelbox-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}.sqlite3"
        with _atomic_write(copy) as part:
            _copy(database, part)
            contents = inspect(part)
            _fsync(part)
    return copy, contents


def needed(database: Path) -> int:
    """Return the bytes that must be free for a copy, which mostly shares a disk with the growing database."""
    return 2 * size(database)


def make_room(folder: Path, bytes: int) -> list[Path]:
    """Remove what killed backups have left, then the oldest copies until `bytes` are free, never the newest.

    If even that would not free enough, all copies are kept. Return the copies that were removed.
    """
    for left in folder.glob(f"{PATTERN}.part*"):
        left.unlink()
    removed: list[Path] = []
    old = newest_first(folder)[:0:-1]
    if old and _free(folder) + sum(copy.stat().st_size for copy in old) < bytes + SPARE:
        return removed
    for copy in old:
        if _free(folder) >= bytes + SPARE:
            break
        copy.unlink()
        removed.append(copy)
    return removed


def remove_old(folder: Path, kept: int) -> list[Path]:
    """Remove all but the newest `kept` copies. Return those that were removed."""
    old = newest_first(folder)[kept:]
    for copy in old:
        copy.unlink()
    return old


def newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(PATTERN), reverse=True)


def inspect(file: Path) -> Contents:
    """Return what a database contains, and check all of it. Raises CliError if unreadable, damaged or not ours."""
    from django.contrib.auth import get_user_model

    from channelbox.chat.models import Event, Room

    tables = [model._meta.db_table for model in (get_user_model(), Room, Event)]
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise CliError(f"{file} is damaged: {verdict}")
            people, rooms, events = (
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
                for table in tables
            )
            migrations = frozenset(connection.execute("SELECT app, name FROM django_migrations").fetchall())
    except sqlite3.DatabaseError as error:
        if not os.access(file, os.R_OK):
            raise CliError(
                f"{file} does not exist or cannot be read.", "The system user channelbox must be able to read it."
            ) from None
        raise CliError(f"{file} is not a valid channelbox database: {error}.") from None
    return Contents(people, rooms, events, migrations)


def replace(copy: Path, database: Path) -> Path | None:
    """Replace a database that nobody uses by a copy. Return where the former one is kept, or None if there was none."""
    with _errors_explained(database.parent):
        check_space(database.parent, size(copy))
        aside = None
        with _atomic_write(database) as part:
            _copy(copy, part)
            _draw_epoch(part)
            _fsync(part)
            if database.exists():
                now = datetime.datetime.now(datetime.UTC)
                aside = database.with_name(f"{database.name}.until-{now:%Y%m%d-%H%M%S}")
                os.link(database, aside)  # until the new one takes its name, so that a database exists at any moment
                # SQLite would apply the logs of the former one to the new one.
                for end in ("-wal", "-shm", "-journal"):
                    if (old := Path(f"{database}{end}")).exists():
                        old.rename(f"{aside}{end}")
    return aside


def size(database: Path) -> int:
    """Return the bytes of a database and its write-ahead log."""
    log = Path(f"{database}-wal")
    return database.stat().st_size + (log.stat().st_size if log.exists() else 0)


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def check_space(folder: Path, needed: int) -> None:
    """Raise CliError unless `needed` bytes, and SPARE more, are free."""
    free = _free(folder)
    if free < needed + SPARE:
        raise CliError(
            f"{folder} has {free / 1e6:,.0f} MB free, but {(needed + SPARE) / 1e6:,.0f} MB are needed.",
            "Free some space, or set another folder for backups with CHANNELBOX_BACKUP_DIR.",
        )


def _copy(database: Path, to: Path) -> None:
    with closing(sqlite3.connect(database, timeout=20)) as source, closing(sqlite3.connect(to)) as target:
        # In one step: with a write-ahead log, a reader neither waits for writers nor blocks them.
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, without others beside it


def _draw_epoch(database: Path) -> None:
    """Draw a new epoch for the installation, so that clients discard what the copy does not have.

    A copy of a version without epochs gets one when it is migrated.
    """
    with closing(sqlite3.connect(database)) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'chat_installation'")
        if known.fetchone() is not None:
            connection.execute("UPDATE chat_installation SET epoch = random()")
            connection.commit()


@contextmanager
def _atomic_write(file: Path) -> Iterator[Path]:
    """Yield a temporary file that becomes `file` atomically, or is removed on an error. The caller must sync it."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield part
        part.rename(file)
        _fsync(file.parent)
    finally:
        part.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    """Sync a file or folder: return when what was written is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _errors_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = (
            "The user channelbox must own it, and ReadWritePaths= of channelbox-backup.service must include it."
            if error.filename
            else ""
        )
        raise CliError(f"{error.filename or folder}: {error.strerror}.", remedy) from None
    except sqlite3.Error as error:
        raise CliError(f"Cannot copy the database: {error}.") from None
