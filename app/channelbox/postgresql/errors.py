"""Classification of the error of a failed PostgreSQL transaction by its SQLSTATE.

https://www.postgresql.org/docs/current/errcodes-appendix.html
psycopg is not imported here, because with SQLite no process needs it.
"""

from django.db import Error, InterfaceError, OperationalError

LOCK_CONFLICTS = {"55P03", "40P01"}  # lock_not_available, deadlock_detected
CONNECTION_ENDED = {"57P01", "57P02", "57P03", "25P03"}  # by an administrator, a crash, a start, or for being idle
CONNECTION_EXCEPTIONS = "08"  # the SQLSTATE class
POOL_TIMEOUT = "PoolTimeout"  # psycopg_pool's error: one of psycopg's without a SQLSTATE


def is_lock_conflict(error: Error) -> bool:
    """Return whether another transaction's lock was in the way, and nothing is wrong with the statement."""
    return getattr(error.__cause__, "sqlstate", None) in LOCK_CONFLICTS


def is_connection_lost(error: Error) -> bool:
    """Return whether there was a connection and it ended: a new one may be available at once."""
    cause = error.__cause__
    if not hasattr(cause, "sqlstate") or any(each.__name__ == POOL_TIMEOUT for each in type(cause).__mro__):
        return False
    state: str | None = getattr(cause, "sqlstate", None)
    if state is None:  # not an answer of the server, which could no longer be reached
        return isinstance(error, OperationalError | InterfaceError)
    return state in CONNECTION_ENDED or state.startswith(CONNECTION_EXCEPTIONS)
