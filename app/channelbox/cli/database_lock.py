"""Waiting for the database, and a lock that all processes of the cluster share through it."""

import copy
import fcntl
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.db import OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from channelbox.cli.errors import CliError

Tell = Callable[[str], None]

REMINDER_SECONDS = 300.0


def wait_for_database(seconds: float, tell: Tell) -> None:
    """Return when the database accepts a connection. Raises CliError after `seconds`, with the database's own reason.

    `seconds` may be infinite. `tell` is called with the reason whenever that changes, and every REMINDER_SECONDS with
    how long the wait has been. Raises CliError at once for a SQLite file that cannot be opened.
    """
    began = reminded = time.monotonic()
    deadline = began + seconds
    reason = ""
    while True:
        with closing(own_connection()) as attempt:
            try:
                attempt.ensure_connection()
                return
            except OperationalError as error:
                if str(error) != reason:
                    reason = str(error)
                    tell(f"Waiting for the database: {reason.strip()}")
        # A SQLite file that cannot be opened will not answer later either.
        if connection.vendor == "sqlite" or time.monotonic() >= deadline:
            raise CliError(
                f"The database does not respond: {reason.strip()}",
                "Check CHANNELBOX_DATABASE_URL, and that the database server runs and allows this node to connect.",
            )
        time.sleep(1)
        if time.monotonic() - reminded >= REMINDER_SECONDS:
            reminded = time.monotonic()
            tell(f"Still waiting for the database, {(reminded - began) / 60:.0f} minutes so far.")


@contextmanager
def database_lock(name: str, seconds: float, tell: Tell) -> Iterator[None]:
    """Hold a lock that only one process of the cluster can hold; it is released however that process ends.

    PostgreSQL: an advisory lock on a connection of its own. SQLite: a lock on a file beside the database.
    `seconds`: how long to wait for a PostgreSQL server to answer. The wait for the lock itself is unlimited, and `tell`
    is called when it begins. Raises CliError when the database does not answer or the file cannot be written.
    """
    if connection.vendor == "sqlite":
        with _file_lock(Path(f"{connection.settings_dict['NAME']}.{name}-lock"), name, tell):
            yield
    else:
        wait_for_database(seconds, tell)
        with closing(own_connection()) as own, own.cursor() as cursor:
            # So that a holder whose machine lost power is noticed within 20 s rather than the kernel's two hours.
            cursor.execute(
                "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2"
            )
            key = zlib.crc32(f"channelbox {name}".encode())
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
            if not cursor.fetchone()[0]:
                tell(f"Another process holds the lock {name!r} of this database; waiting for it.")
                cursor.execute("SELECT pg_advisory_lock(%s)", [key])
            yield


@contextmanager
def _file_lock(file: Path, name: str, tell: Tell) -> Iterator[None]:
    try:
        handle = file.open("w")
    except OSError as error:
        raise CliError(
            f"{file} cannot be written: {error.strerror}.",
            "The folder of the database must exist and belong to the user that runs this command.",
        ) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"Another process holds the lock {name!r} of this database; waiting for it.")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def own_connection() -> BaseDatabaseWrapper:
    """Return a connection outside the pool, which would report its own timeout instead of the server's reason."""
    shared = connections["default"]
    settings = copy.deepcopy(shared.settings_dict)
    settings["OPTIONS"].pop("pool", None)
    return type(shared)(settings, "own")
