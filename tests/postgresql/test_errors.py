"""Classification of database errors: whether a lock conflicted, and whether the connection was lost."""

import pytest
from django.db import DataError, Error, InterfaceError, InternalError, OperationalError
from psycopg import errors
from psycopg_pool import PoolTimeout

from channelbox.postgresql.errors import is_connection_lost, is_lock_conflict


def caused(kind: type[Error], cause: Exception | None) -> Error:
    """Return the error as Django raises it: with the driver's error as its cause."""
    error = kind("no good")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("kind", "cause", "lock", "lost"),
    [
        (OperationalError, errors.LockNotAvailable(), True, False),
        (OperationalError, errors.DeadlockDetected(), True, False),
        (OperationalError, errors.AdminShutdown(), False, True),
        (OperationalError, errors.CrashShutdown(), False, True),
        (OperationalError, errors.ConnectionFailure(), False, True),
        (OperationalError, errors.OperationalError("server closed the connection unexpectedly"), False, True),
        (InterfaceError, errors.InterfaceError("the connection is closed"), False, True),
        (InternalError, errors.IdleInTransactionSessionTimeout(), False, True),
        (InternalError, errors.ReadOnlySqlTransaction(), False, False),
        (OperationalError, errors.QueryCanceled(), False, False),
        (OperationalError, errors.DiskFull(), False, False),
        (OperationalError, PoolTimeout("the database is away"), False, False),
        (OperationalError, OSError("SQLite's has no state"), False, False),
        (OperationalError, None, False, False),
        (DataError, errors.DataError("out of range"), False, False),
    ],
)
def test_lock_conflicts_and_lost_connections_are_recognised(
    kind: type[Error], cause: Exception | None, lock: bool, lost: bool
) -> None:
    error = caused(kind, cause)
    assert (is_lock_conflict(error), is_connection_lost(error)) == (lock, lost)
