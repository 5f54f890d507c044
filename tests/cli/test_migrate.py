"""Migrations on both databases run once despite concurrent runs, and complete after crashes and outages."""

import fcntl
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.support.servers import PostgreSQLServer

from .conftest import CHANNELBOX, Run, environment

ROOT = Path(__file__).parents[2]
PRINT_MISSING = "from channelbox.cli.schema_check import missing_migrations; print(missing_migrations())"
Start = Callable[..., "subprocess.Popen[str]"]


class SQLite:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "db.sqlite3"
        self.url = f"sqlite:///{self.file}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        with Path(f"{self.file}.migrate-lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute(statement)


class PostgreSQL:
    def __init__(self, server: PostgreSQLServer, name: str) -> None:
        self.server = server
        self.url = server.url(name)
        with closing(psycopg.connect(server.url("postgres"), autocommit=True)) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
            connection.execute(f"CREATE DATABASE {name}".encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [zlib.crc32(b"channelbox migrate")])
            yield

    def execute(self, statement: str) -> None:
        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            connection.execute(statement.encode())


Database = SQLite | PostgreSQL


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with tempfile.TemporaryDirectory(prefix="channelbox-") as folder:
        server = PostgreSQLServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        return SQLite(tmp_path)
    return PostgreSQL(request.getfixturevalue("server"), "migrations")


@pytest.fixture
def start(settings_of_one_node: dict[str, str]) -> Iterator[Start]:
    """Return a function that starts `channelbox migrate`. Processes that still run at the end are killed."""
    started = []

    def start(
        database: Database, *arguments: str, verb: str = "migrate", under: Sequence[str] = ()
    ) -> "subprocess.Popen[str]":
        variables = {**settings_of_one_node, "CHANNELBOX_DATABASE_URL": database.url, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [*under, *CHANNELBOX, verb, *arguments],
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line_with(process: "subprocess.Popen[str]", words: str) -> str:
    """Read the output up to the line with these words, and return that line."""
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return line
    raise AssertionError(f"{words!r} was not printed:\n{seen}")


def result(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def test_four_concurrent_runs_migrate_once(database: Database, start: Start) -> None:
    outputs = [result(process) for process in [start(database) for _ in range(4)]]
    assert sum("Applied migrations" in output for output in outputs) == 1
    assert sum("Applying chat.0001_initial" in output for output in outputs) == 1
    assert sum("The database is up to date.\n" in output for output in outputs) == 3


def test_a_second_run_changes_nothing(database: Database, start: Start) -> None:
    result(start(database))
    assert result(start(database)) == "The database is up to date.\n"


def test_a_database_recreated_from_a_dump_gets_a_new_epoch(server: PostgreSQLServer, start: Start) -> None:
    """pg_restore restores the epoch of the dump too; clients may have received events that are not in the dump."""
    database = PostgreSQL(server, "restored")
    result(start(database))
    with closing(psycopg.connect(database.url, autocommit=True)) as connection:
        (before,) = connection.execute("SELECT epoch FROM chat_installation").fetchall()
        connection.execute("UPDATE chat_installation SET database_oid = 1")
        assert "clients reload their rooms" in result(start(database))
        (after,) = connection.execute("SELECT epoch FROM chat_installation").fetchall()
    assert after != before
    assert result(start(database)) == "The database is up to date.\n"


def test_migrate_waits_for_a_concurrent_migration(database: Database, start: Start) -> None:
    with database.locked():
        process = start(database)
        line_with(process, "waiting for it")
        assert process.poll() is None
    assert "Applied migrations" in result(process)


# Runs `channelbox migrate` and kills it when a migration reaches a step: `apply`, or `note`, when Django has applied
# it and is about to record it.
KILLED = """
import os, runpy, signal, sys
from django.db.migrations.migration import Migration
from django.db.migrations.recorder import MigrationRecorder
step, *at = sys.argv[1:4]
apply, note = Migration.apply, MigrationRecorder.record_applied
def reached(*now):
    if list(now) == [step, *at]:
        os.kill(os.getpid(), signal.SIGKILL)
def watched_apply(self, *args, **kwargs):
    reached("apply", self.app_label, self.name)
    return apply(self, *args, **kwargs)
def watched_note(self, app, name):
    reached("note", app, name)
    return note(self, app, name)
Migration.apply, MigrationRecorder.record_applied = watched_apply, watched_note
sys.argv = ["channelbox", "migrate"]
runpy.run_module("channelbox.cli.main", run_name="__main__")
"""


@pytest.mark.parametrize("step", ["apply", "note"])
def test_the_next_run_completes_a_killed_migration(database: Database, start: Start, step: str) -> None:
    # admin.0001_initial creates an index after a table, which Django alone would commit before the record.
    process = start(database, under=[sys.executable, "-c", KILLED, step, "admin", "0001_initial"])
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert "Applying contenttypes.0001_initial... OK" in output
    assert "Applying admin.0001_initial" in result(start(database))
    assert result(start(database)) == "The database is up to date.\n"


def test_a_database_of_a_newer_version_is_reported_and_not_changed(database: Database, start: Start) -> None:
    result(start(database))
    database.execute(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('chat', '9999_later', '2026-01-01 00:00:00')"
    )
    assert result(start(database)) == (
        "The database has been migrated by a newer version: chat.9999_later\nThe database is up to date.\n"
    )


def test_migrate_waits_for_the_database_server(server: PostgreSQLServer, start: Start) -> None:
    database = PostgreSQL(server, "later")
    server.stop()
    try:
        process = start(database)
        line_with(process, "Waiting for the database: ")
    finally:
        server.start()
    assert "Applied migrations" in result(process)


def test_the_unit_waits_for_a_database_that_is_five_minutes_late(server: PostgreSQLServer, start: Start) -> None:
    unit = (ROOT / "packaging/debian/units/channelbox-migrate.service").read_text()
    _, verb, *arguments = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)[0].split()
    assert verb == "migrate"
    database = PostgreSQL(server, "late")
    # The clock of the process runs sixty times as fast as ours, also while it waits.
    fast = ["faketime", "-f", "+0 x60"]
    server.stop()
    try:
        process = start(database, *arguments, under=fast)
        line_with(process, "Still waiting for the database, 5 minutes so far.")
    finally:
        server.start()
    output, _ = process.communicate(timeout=120)
    # Its timeout of 5 s for a connection is 0.08 s on our clock. The unit would restart it, too.
    while process.returncode and "timeout expired" in output:
        process = start(database, *arguments, under=fast)
        output, _ = process.communicate(timeout=120)
    assert "Applied migrations" in output


def test_waiting_ends_with_the_reason_given_by_the_server(server: PostgreSQLServer, start: Start) -> None:
    database = PostgreSQL(server, "later")
    database.url = server.url("nowhere")
    process = start(database, "--wait", "0")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert 'database "nowhere" does not exist' in output
    assert "CHANNELBOX_DATABASE_URL" in output
    assert "Traceback" not in output


def test_a_missing_database_folder_is_reported_immediately(tmp_path: Path, start: Start) -> None:
    process = start(SQLite(tmp_path / "missing"))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "The folder of the database must exist" in output


@pytest.mark.parametrize("verb", ["web", "worker"])
def test_a_process_does_not_start_without_its_migrations(run: Run, verb: str) -> None:
    refused = run(verb)
    assert refused.returncode == 1
    assert "The database lacks migrations of this version" in refused.stderr
    assert "journalctl -u channelbox-migrate" in refused.stderr


def test_missing_migrations_are_detected(database: Database, start: Start) -> None:
    result(start(database))
    lacking = start(database, "shell", "-c", PRINT_MISSING, verb="manage")
    assert result(lacking).splitlines()[-1] == "[]"
    database.execute("DELETE FROM django_migrations WHERE app = 'chat'")
    lacking = start(database, "shell", "-c", PRINT_MISSING, verb="manage")
    assert "'chat.0001_initial'" in result(lacking).splitlines()[-1]
