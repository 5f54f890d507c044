"""The databases of the target, on a small filesystem of their own if one can be mounted."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from tests.support.servers import PostgreSQLServer

ROWS = """
    SELECT chat_room.name, chat_event.seq, chat_event.name || '/' || chat_event.client_id
    FROM chat_event JOIN chat_room ON chat_room.id = chat_event.room_id
"""
OTHERS_ENDED = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND NOT pid = ANY(%s)
"""
SIZE = "400m"
TAKEN_SECONDS = 2.0  # spent on opening connections until none is left

Row = tuple[str, int, str]  # room, number, sender and id


class _Folder:
    """A filesystem in memory, which can be filled without harm; a plain folder if not run by root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounted = False

    def mount(self) -> None:
        self.folder.mkdir()
        if os.getuid() == 0:
            size = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "channelbox-faults", str(self.folder)]
            self.mounted = subprocess.run(size, check=False, capture_output=True).returncode == 0

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
            self.mounted = False

    @contextmanager
    def full(self) -> Iterator[None]:
        """Fill the filesystem for as long as the context lasts."""
        filler = self.folder / "filler"
        with filler.open("wb") as file:
            try:
                for piece in (1 << 20, 1 << 12):  # the servers write meanwhile, so that free space changes
                    with contextlib.suppress(OSError):
                        while True:
                            os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), piece)
                yield
            finally:
                filler.unlink()


class SQLite(_Folder):
    """A SQLite database."""

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/db.sqlite3"

    def start(self) -> None:
        self.mount()

    def stop(self) -> None:
        self.unmount()

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "db.sqlite3", timeout=20, isolation_level=None, check_same_thread=False)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold a write lock, as an unfinished transaction of another process does."""
        connection = self.connect()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
            connection.close()

    def rows(self) -> list[Row]:
        connection = self.connect()
        try:
            return connection.execute(ROWS).fetchall()
        finally:
            connection.close()


class PostgreSQL(_Folder):
    """A PostgreSQL server."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.server: PostgreSQLServer

    @property
    def url(self) -> str:
        return self.server.url("channelbox")

    def start(self) -> None:
        self.mount()
        self.server = PostgreSQLServer(self.folder)
        self.server.start()
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE channelbox")

    def stop(self) -> None:
        self.server.stop()
        self.unmount()

    def restart(self) -> None:
        """Shut the server down fast and start it again at once."""
        self.server.stop()
        self.server.start()

    def crash(self) -> None:
        """Crash and restart the server: it recovers committed transactions from the log, as after a power cut."""
        self.server.signal(signal.SIGQUIT)
        self.server.wait()
        self.server.start()

    @contextmanager
    def connections_taken(self) -> Iterator[None]:
        """Take all connections of the server, after ending those of the installation."""
        with contextlib.ExitStack() as stack:
            taken = [stack.enter_context(self._connect())]
            end = time.monotonic() + TAKEN_SECONDS
            while time.monotonic() < end:
                try:
                    taken.append(stack.enter_context(self._connect()))
                except psycopg.OperationalError:
                    own = [connection.info.backend_pid for connection in taken]
                    taken[0].execute(OTHERS_ENDED, [own])
            yield

    def _connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(self.url, autocommit=True, connect_timeout=5)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Fill the filesystem. If the server exits because of that, it is started when there is space again."""
        try:
            with super().full():
                yield
        finally:
            if not self.server.answers():
                self.server.kill()
                self.server.start()

    def rows(self) -> list[Row]:
        with self._connect() as connection:
            return connection.execute(ROWS).fetchall()
