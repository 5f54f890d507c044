"""Transactions that fail instead of waiting long for the locks of others."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def atomic_within(seconds: float) -> Iterator[None]:
    """Open a transaction that waits at most `seconds` for each lock. Raises OperationalError if it does not get one.

    SQLite has a single write lock, for which the transaction waits when it begins.
    """
    milliseconds = round(seconds * 1000)
    if connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{milliseconds}ms"])
            yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        usual = cursor.fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout = {milliseconds:d}")
        try:
            with transaction.atomic():
                yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {usual:d}")
