"""Transactions that give up instead of waiting long for what others write."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def atomic_within(seconds: float) -> Iterator[None]:
    """A transaction that waits at most so long for each lock. Raise OperationalError when it does not get one.

    SQLite has one lock for all who write, for which this waits when it begins.
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
