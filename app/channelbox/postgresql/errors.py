"""What PostgreSQL's errors say of a transaction that failed, by their SQLSTATE.

https://www.postgresql.org/docs/current/errcodes-appendix.html
psycopg is not imported here: where SQLite is used, no process needs it.
"""

from django.db import Error, InterfaceError, OperationalError

LOCK_CONFLICTS = {"55P03", "40P01"}  # lock_not_available, deadlock_detected
CONNECTION_ENDED = {"57P01", "57P02", "57P03", "25P03"}  # by an administrator, a crash, a start, for its idleness
CONNECTION_EXCEPTIONS = "08"  # the class of them
NEVER_HAD = "PoolTimeout"  # psycopg_pool's, which is an error of psycopg's without a state


def is_lock_conflict(error: Error) -> bool:
    """Return whether somebody else's lock was in the way, and nothing is wrong with the statement."""
    return getattr(error.__cause__, "sqlstate", None) in LOCK_CONFLICTS


def is_connection_lost(error: Error) -> bool:
    """Return whether there was a connection and it ended: another one may be had at once."""
    cause = error.__cause__
    if not hasattr(cause, "sqlstate") or any(each.__name__ == NEVER_HAD for each in type(cause).__mro__):
        return False
    state: str | None = getattr(cause, "sqlstate", None)
    if state is None:  # it was not the server that said so: it could no longer be reached
        return isinstance(error, OperationalError | InterfaceError)
    return state in CONNECTION_ENDED or state.startswith(CONNECTION_EXCEPTIONS)
