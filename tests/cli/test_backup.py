"""Backups of a SQLite database: made while others write, valid, and restored."""

import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from channelbox.cli.sqlite_backup import make_room

from .conftest import Run, command


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, timeout=20)) as connection, connection:
        yield connection


def users(file: Path) -> set[str]:
    with opened(file) as connection:
        return {name for (name,) in connection.execute("SELECT username FROM accounts_user")}


def backups(folder: Path) -> list[Path]:
    return sorted((folder / "backups").iterdir())


def back_up(run: Run) -> Path:
    answer = run("backup")
    assert answer.returncode == 0, answer.stderr
    return Path(answer.stdout.split()[0])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "db.sqlite3"


def test_a_backup_is_one_valid_file_readable_only_by_the_service(migrated: Run, tmp_path: Path) -> None:
    migrated("user", "add", "alice")
    answer = migrated("backup")
    assert answer.returncode == 0, answer.stderr
    assert "users: 1, rooms: 0, messages and other events: 0" in answer.stdout
    (copy,) = backups(tmp_path)
    assert answer.stdout.startswith(str(copy))
    assert users(copy) == {"alice"}
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.parent.stat().st_mode & 0o777 == 0o700


def test_a_backup_is_consistent_and_does_not_block_writers(migrated: Run, tmp_path: Path, database: Path) -> None:
    with opened(database) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE pair (a, b, filling)")
        connection.executemany("INSERT INTO pair VALUES (0, 0, ?)", [(b"x" * 4000,) for _ in range(5000)])
    stopped = threading.Event()
    written = [0]

    def write() -> None:
        with closing(sqlite3.connect(database, timeout=0.5)) as connection:
            while not stopped.is_set():
                with connection:
                    connection.execute("UPDATE pair SET a = a + 1 WHERE rowid = 1")
                    connection.execute("UPDATE pair SET b = b + 1 WHERE rowid = 5000")
                written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copy = back_up(migrated)
        assert writer.is_alive()  # it would have ended with an error if it had waited for long
        assert written[0] > 10
    finally:
        stopped.set()
        writer.join()
    with opened(copy) as connection:
        (a,) = connection.execute("SELECT a FROM pair WHERE rowid = 1").fetchone()
        (b,) = connection.execute("SELECT b FROM pair WHERE rowid = 5000").fetchone()
    assert a == b


def test_old_backups_and_partial_files_are_removed(migrated: Run, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    for day in range(10, 15):
        (folder / f"channelbox-202601{day}-031500.sqlite3").touch()
    (folder / "channelbox-20260115-031500.sqlite3.part").touch()
    (folder / "my own.sqlite3").touch()
    answer = migrated("backup", CHANNELBOX_BACKUPS_KEPT="3")
    assert answer.stdout.count("Removed: ") == 3
    names = [copy.name for copy in backups(tmp_path)]
    assert names[:2] == ["channelbox-20260113-031500.sqlite3", "channelbox-20260114-031500.sqlite3"]
    assert names[-1] == "my own.sqlite3"
    assert len(names) == 4


def test_old_backups_are_removed_for_space_but_never_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(10, 15):
        (tmp_path / f"channelbox-202601{day}-031500.sqlite3").write_bytes(b"x" * 100)

    def free(folder: Path) -> int:
        return 10_000 - sum(file.stat().st_size for file in folder.iterdir())

    monkeypatch.setattr("channelbox.cli.sqlite_backup._free", free)
    monkeypatch.setattr("channelbox.cli.sqlite_backup.SPARE", 1000)
    removed = make_room(tmp_path, 8700)
    assert [copy.name[:19] for copy in removed] == ["channelbox-20260110", "channelbox-20260111"]
    assert make_room(tmp_path, 1_000_000) == []  # not enough space even without the backups, so they are kept
    make_room(tmp_path, 8900)
    assert [copy.name[:19] for copy in tmp_path.iterdir()] == ["channelbox-20260114"]


def test_a_damaged_database_is_not_backed_up_and_keeps_old_backups(
    migrated: Run, tmp_path: Path, database: Path
) -> None:
    back_up(migrated)
    with database.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(100_000))
    answer = migrated("backup", CHANNELBOX_BACKUPS_KEPT="1")
    assert answer.returncode == 1
    assert "channelbox: " in answer.stderr
    assert "Traceback" not in answer.stderr
    assert len(backups(tmp_path)) == 1


def test_an_unwritable_folder_is_named_in_the_error(migrated: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = migrated("backup", CHANNELBOX_BACKUP_DIR=f"{tmp_path}/file/backups")
    assert answer.returncode == 1
    assert f"{tmp_path}/file" in answer.stderr
    assert "ReadWritePaths" in answer.stderr


def test_restore_replaces_the_database_and_keeps_the_former_one(migrated: Run, tmp_path: Path, database: Path) -> None:
    migrated("user", "add", "alice")
    copy = back_up(migrated)
    migrated("user", "add", "bob")
    answer = migrated("restore", copy.name)
    assert answer.returncode == 0, answer.stderr
    assert users(database) == {"alice"}
    assert database.stat().st_mode & 0o777 == 0o600
    (former,) = tmp_path.glob("db.sqlite3.until-*[0-9]")
    assert str(former) in answer.stdout
    assert users(former) == {"alice", "bob"}
    assert "alice\tuser" in migrated("user", "list").stdout


def test_restore_refuses_a_database_in_use(migrated: Run, database: Path) -> None:
    copy = back_up(migrated)
    with opened(database) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("SELECT count(*) FROM accounts_user").fetchone()
        answer = migrated("restore", str(copy))
    assert answer.returncode == 1
    assert "systemctl stop channelbox.target" in answer.stderr


def test_restore_refuses_invalid_missing_and_newer_backups(migrated: Run, tmp_path: Path, database: Path) -> None:
    migrated("user", "add", "alice")
    (tmp_path / "text").write_text("no database")
    newer = back_up(migrated)
    with opened(newer) as connection:
        connection.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('chat', '9999_later', '')")
    reasons = (("text", "not a valid channelbox database"), ("none", "does not exist"), (newer, "chat.9999_later"))
    for file, reason in reasons:
        answer = migrated("restore", str(tmp_path / file))
        assert answer.returncode == 1
        assert reason in answer.stderr
    assert users(database) == {"alice"}
    assert not list(tmp_path.glob("*.until-*"))


def test_restore_refuses_a_relative_path(migrated: Run) -> None:
    assert "absolute path" in migrated("restore", "here/copy.sqlite3").stderr


def test_restore_without_a_name_lists_the_backups(migrated: Run) -> None:
    assert "channelbox backup" in migrated("restore").stderr
    copy = back_up(migrated)
    assert str(copy) in migrated("restore").stdout


def test_doctor_reports_the_age_of_the_newest_backup(migrated: Run) -> None:
    def output() -> str:
        return migrated("doctor", "http://127.0.0.1:9", CHANNELBOX_REDIS_URL="redis://127.0.0.1:9").stdout

    assert "There is no backup" in output()
    copy = back_up(migrated)
    assert "0 hours old" in output()
    old = copy.stat().st_mtime - 5 * 86400
    os.utime(copy, (old, old))
    assert "is 5 days old" in output()


def test_backup_and_restore_refuse_postgresql(settings_of_one_node: dict[str, str]) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        url = "postgresql://channelbox:secret@192.0.2.1/channelbox"
        return command(arguments, {**settings_of_one_node, "CHANNELBOX_DATABASE_URL": url})

    for verb in ("backup", "restore"):
        answer = run(verb)
        assert answer.returncode == 1
        assert "its own node" in answer.stderr
    assert run("backup", "--if-sqlite").returncode == 0


def epoch(file: Path) -> int:
    with opened(file) as connection:
        (drawn,) = connection.execute("SELECT epoch FROM chat_installation").fetchone()
        return int(drawn)


def test_restore_gives_the_database_a_new_epoch(migrated: Run, database: Path) -> None:
    """The new epoch tells clients that events since the backup are gone."""
    before, copy = epoch(database), back_up(migrated)
    assert epoch(copy) == before
    assert migrated("restore", copy.name).returncode == 0
    assert epoch(database) != before
    assert epoch(copy) == before


def test_restored_command_starts_a_new_epoch(migrated: Run, database: Path) -> None:
    before = epoch(database)
    answer = migrated("restored")
    assert answer.returncode == 0, answer.stderr
    assert "reload their rooms" in answer.stdout
    assert epoch(database) != before
