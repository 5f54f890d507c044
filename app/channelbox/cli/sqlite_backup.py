"""Copies of a SQLite database: made while it is in use, looked into before they count, the oldest removed."""

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
SPARE = 64 * 1024 * 1024  # bytes that a copy leaves free


@dataclass(frozen=True)
class Contents:
    """What is in a database. migrations: the (app, name) that it has been through."""

    people: int
    rooms: int
    events: int
    migrations: frozenset[tuple[str, str]]

    def __str__(self) -> str:
        return f"users: {self.people}, rooms: {self.rooms}, messages and other events: {self.events}"


def sqlite_file() -> Path | None:
    """The file of the database; None when it is PostgreSQL."""
    from django.db import connection

    return Path(connection.settings_dict["NAME"]) if connection.vendor == "sqlite" else None


def folder() -> Path:
    """Of the backups: the one that is set, else one beside the database."""
    from django.conf import settings

    return Path(settings.CHANNELBOX_BACKUP_DIR or (sqlite_file() or Path()).parent / "backups")


def make(database: Path, folder: Path) -> tuple[Path, Contents]:
    """Copies the database as it is at one moment, while others write to it. Gives the copy, which is sound.

    One at a time: the caller holds a lock.
    Raises CliError when there is no database, no room for a copy, or when the copy is not sound; it is removed then.
    """
    if not database.exists():
        raise CliError(f"The database {database} does not exist yet.", "Run: channelbox migrate")
    with _told(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_space(folder, needed(database))
        copy = folder / f"channelbox-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}.sqlite3"
        with _part_of(copy) as part:
            _copy(database, part)
            contents = look_into(part)
            _write_through(part)
    return copy, contents


def needed(database: Path) -> int:
    """Bytes that have to be free for a copy: it mostly shares a disk with the database, which goes on growing."""
    return 2 * size(database)


def make_room(folder: Path, bytes: int) -> list[Path]:
    """Removes what a copying that was killed has left, then the oldest copies until there is room, never the newest.

    Where even that would not make room, it keeps them all. Gives the copies that it removed.
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
    """Removes all but the newest copies. Gives those that it removed."""
    old = newest_first(folder)[kept:]
    for copy in old:
        copy.unlink()
    return old


def newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(PATTERN), reverse=True)


def look_into(file: Path) -> Contents:
    """Reads all of a database. Raises CliError when it cannot be read, is damaged, or is none of channelbox's."""
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
                f"{file} does not exist, or the service cannot read it.", "The service user must be able to read it."
            ) from None
        raise CliError(f"{file} is not a valid channelbox database: {error}.") from None
    return Contents(people, rooms, events, migrations)


def put_in_place(copy: Path, database: Path) -> Path | None:
    """Puts a copy in the place of a database that nobody uses. Gives where the former one is kept, if there was one."""
    with _told(database.parent):
        check_space(database.parent, size(copy))
        aside = None
        with _part_of(database) as part:
            _copy(copy, part)
            _draw_epoch(part)
            _write_through(part)
            if database.exists():
                now = datetime.datetime.now(datetime.UTC)
                aside = database.with_name(f"{database.name}.until-{now:%Y%m%d-%H%M%S}")
                os.link(database, aside)  # until the new one takes its name: there is a database at any moment
                # What belongs to the former one would be played into the new one.
                for end in ("-wal", "-shm", "-journal"):
                    if (old := Path(f"{database}{end}")).exists():
                        old.rename(f"{aside}{end}")
    return aside


def size(database: Path) -> int:
    """Bytes of it and of its write-ahead log."""
    log = Path(f"{database}-wal")
    return database.stat().st_size + (log.stat().st_size if log.exists() else 0)


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def check_space(folder: Path, needed: int) -> None:
    """Raises CliError where that many bytes are not free."""
    free = _free(folder)
    if free < needed + SPARE:
        raise CliError(
            f"{folder} has {free / 1e6:,.0f} MB free, but {(needed + SPARE) / 1e6:,.0f} MB are needed.",
            "Free some space, or set another folder for backups with CHANNELBOX_BACKUP_DIR.",
        )


def _copy(database: Path, to: Path) -> None:
    with closing(sqlite3.connect(database, timeout=20)) as source, closing(sqlite3.connect(to)) as target:
        # In one step: with a write-ahead log a reader waits for nobody, and nobody waits for it.
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it


def _draw_epoch(database: Path) -> None:
    """Draw another epoch for the installation, so that clients forget what the copy does not have.

    A copy of a version that had none gets one when it is migrated.
    """
    with closing(sqlite3.connect(database)) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'chat_installation'")
        if known.fetchone() is not None:
            connection.execute("UPDATE chat_installation SET epoch = random()")
            connection.commit()


@contextmanager
def _part_of(file: Path) -> Iterator[Path]:
    """What is written there becomes `file` at once, or nothing. The writer writes it through."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield part
        part.rename(file)
        _write_through(file.parent)
    finally:
        part.unlink(missing_ok=True)


def _write_through(path: Path) -> None:
    """Returns when what was written is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = (
            "It must belong to the service user; in a unit, ReadWritePaths= must include it." if error.filename else ""
        )
        raise CliError(f"{error.filename or folder}: {error.strerror}.", remedy) from None
    except sqlite3.Error as error:
        raise CliError(f"Cannot copy the database: {error}.") from None
