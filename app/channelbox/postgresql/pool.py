"""psycopg's pool, in step with a server that goes away, comes back, and ends its backends.

psycopg_pool by itself waits 1, 2, 4 ... 64 s between its attempts, in all processes alike; tries one dead connection
after another, with the same growing pauses between them; and has every caller wait for the whole timeout.
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

# An attempt that fails is followed by one after 0.9 to 1.1 s and one at the end; then all begins anew.
ATTEMPTS_SECONDS = 1.5
AWAY_SECONDS = 1.5  # that one caller waits for a server that is away: longer than the pause between two attempts


class Pool(ConnectionPool[Connection]):
    """Connections that are tried when they are taken. Uses what psycopg_pool offers to everybody, nothing private.

    - Attempts to connect go on for as long as the server is away, about one a second.
    - Where one connection turns out dead, all that are idle are replaced at once: they died with it.
    - While the server is away, one caller at a time waits for it, and every other one is refused at once with
      PoolTimeout, an OperationalError: a thread that waits in vain is one less for those who need no database.
    """

    def __init__(self, *, kwargs: Mapping[str, Any], configure: Callable[[Connection], object], **options: Any) -> None:
        """`kwargs`: those of psycopg.connect. `configure` prepares each new connection. `options`: as for psycopg's."""
        self._prepare = configure
        self._away = threading.Event()  # no connection lives, and the last attempts to get one failed
        self._waits = threading.Lock()  # held by the one caller that waits meanwhile
        self._newest: weakref.WeakSet[Connection] = weakref.WeakSet()  # made since idle ones were replaced
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
                if connection in self._newest:  # else they have been replaced since this one was made
                    self._newest.clear()
                    self.drain()
            raise

    def _gave_up(self, _: ConnectionPool[Any]) -> None:
        """Begin anew to connect, where a connection is needed."""
        state = self.get_stats()
        if not state["pool_size"] and not self._away.is_set():  # none lives or is on its way
            logger.warning("The database is not reachable; retrying about once a second.")
            self._away.set()
        if state["requests_waiting"] or state["pool_size"] < state["pool_min"]:
            self.check()
