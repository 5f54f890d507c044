"""The target's databases, on a small filesystem of their own where that can be had."""

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Protocol

from tests.servers import PostgreSQLServer

ROWS = """
    SELECT chat_room.name, chat_event.seq, chat_event.client_id
    FROM chat_event JOIN chat_room ON chat_room.id = chat_event.room_id
"""
SIZE = "320m"

Row = tuple[str, int, str]  # room, number, id


class Database(Protocol):
    """Where what was said is kept."""

    folder: Path
    mounted: bool

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def rows(self) -> list[Row]: ...


class _Folder:
    """A filesystem in memory, which can be full without harm; without root a folder."""

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

    def fill(self) -> None:
        """Takes all the space that is left."""
        free = shutil.disk_usage(self.folder).free
        with (self.folder / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free)

    def free(self) -> None:
        (self.folder / "filler").unlink()


class SQLite(_Folder):
    """One file."""

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/db.sqlite3"

    def start(self) -> None:
        self.mount()

    def stop(self) -> None:
        self.unmount()

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "db.sqlite3", timeout=20, isolation_level=None, check_same_thread=False)

    def rows(self) -> list[Row]:
        connection = self.connect()
        try:
            return connection.execute(ROWS).fetchall()
        finally:
            connection.close()


class PostgreSQL(_Folder):
    """A server."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.server: PostgreSQLServer

    @property
    def url(self) -> str:
        return self.server.url("channelbox")

    def start(self) -> None:
        import psycopg

        self.mount()
        self.server = PostgreSQLServer(self.folder)
        self.server.start()
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE channelbox")

    def stop(self) -> None:
        self.server.stop()
        self.unmount()

    def rows(self) -> list[Row]:
        import psycopg

        with psycopg.connect(self.url) as connection:
            return connection.execute(ROWS).fetchall()
