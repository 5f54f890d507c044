"""psycopg's pool, adapted to a server that becomes unavailable, comes back, and terminates its backends.

psycopg_pool by itself waits 1, 2, 4 ... 64 s between its attempts to connect, in all processes alike. It tries one dead
connection after another, with the same growing pauses, and makes every caller wait for the whole timeout.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

logger = logging.getLogger(__name__)

Connection = psycopg.Connection[Any]

# A failed attempt is followed by one after 0.9 to 1.1 s and one at the end of this time; then a new series begins.
ATTEMPTS_SECONDS = 1.5
AWAY_SECONDS = 1.5  # wait of the one caller in an outage: longer than the pause between two attempts


class Pool(ConnectionPool[Connection]):
    """Pool whose connections are checked when they are taken. Uses only the public API of psycopg_pool.

    - Attempts to connect continue for as long as the server is unavailable, about one a second.
    - When one connection turns out dead, all idle ones are replaced at once, because they died with it.
    - While the server is unavailable, one caller at a time waits for it, and every other one is refused at once with
      PoolTimeout, an OperationalError: a thread that waits in vain is one less for work that needs no database.
    """

    def __init__(self, *, kwargs: Mapping[str, Any], configure: Callable[[Connection], object], **options: Any) -> None:
        """`kwargs`: for psycopg.connect. `configure` prepares each new connection. `options`: for psycopg's pool."""
        self._prepare = configure
        self._away = threading.Event()  # set while no connection is alive and the last attempts to connect failed
        self._waits = threading.Lock()  # held by the one caller that waits in an outage
        self._newest: weakref.WeakSet[Connection] = weakref.WeakSet()  # made since idle connections were last replaced
        self._replacing = threading.Lock()
        super().__init__(
            kwargs=dict(kwargs),
            open=False,
            configure=self._connected,
            check=self._tried,
            reconnect_timeout=ATTEMPTS_SECONDS,
            reconnect_failed=self._gave_up,
            **options,
        )

    def getconn(self, timeout: float | None = None) -> Connection:
        """Return a connection that answers. Raises PoolTimeout when there is none within `timeout` seconds."""
        if not self._away.is_set():
            return super().getconn(timeout)
        if not self._waits.acquire(blocking=False):
            raise PoolTimeout("the database is not reachable")
        try:
            return super().getconn(AWAY_SECONDS)
        finally:
            self._waits.release()

    def _connected(self, connection: Connection) -> None:
        self._prepare(connection)
        with self._replacing:
            self._newest.add(connection)
        if self._away.is_set():
            logger.warning("The database is reachable again.")
        self._away.clear()

    def _tried(self, connection: Connection) -> None:
        try:
            self.check_connection(connection)
        except Exception:
            with self._replacing:
                if connection in self._newest:  # otherwise they have been replaced since this one was made
                    self._newest.clear()
                    self.drain()
            raise

    def _gave_up(self, _: ConnectionPool[Any]) -> None:
        """Begin a new series of attempts to connect, if a connection is needed. Called after one has failed."""
        state = self.get_stats()
        if not state["pool_size"] and not self._away.is_set():  # none is open or being opened
            logger.warning("The database is not reachable; retrying about once a second.")
            self._away.set()
        if state["requests_waiting"] or state["pool_size"] < state["pool_min"]:
            self.check()
