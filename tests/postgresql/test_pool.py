"""The connection pool, with the product's settings, while PostgreSQL is killed, restarted or ends its backends."""

import concurrent.futures
import contextlib
import io
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from django.db import DatabaseError, OperationalError
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.utils import ConnectionHandler
from pytest_django import DjangoDbBlocker
from tests.support.servers import PostgreSQLServer
from tests.test_settings import read

from channelbox.logs import Journal
from channelbox.postgresql.pool import Pool

RECOVERY_SECONDS = 5  # for every pool; about 1 is expected
OURS = "backend_type = 'client backend' AND application_name LIKE 'channelbox%'"
COUNT_BACKENDS = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}"
TERMINATE_BACKENDS = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgreSQLServer]:
    with tempfile.TemporaryDirectory(prefix="channelbox-") as folder:
        cluster = PostgreSQLServer(Path(folder))
        yield cluster
        cluster.stop()


@pytest.fixture
def server(cluster: PostgreSQLServer) -> PostgreSQLServer:
    if cluster.process is None:
        cluster.start()
    return cluster


Pools = Callable[[int], ConnectionHandler]


@pytest.fixture
def pools(server: PostgreSQLServer, django_db_blocker: DjangoDbBlocker) -> Iterator[Pools]:
    """Return a function that makes the connections of several processes, each with a pool of its own."""
    with django_db_blocker.unblock(), contextlib.ExitStack() as stack:

        def make(count: int) -> ConnectionHandler:
            database = read("DATABASES", CHANNELBOX_DATABASE_URL=server.url("postgres"))["DATABASES"]["default"]
            handler = ConnectionHandler({"default": {}, **{f"process-{number}": database for number in range(count)}})
            for name in handler:
                if name != "default":
                    stack.callback(cast(DatabaseWrapper, handler[name]).close_pool)
            return handler

        yield make


def query(handler: ConnectionHandler, name: str = "process-0") -> int:
    """Return the process id of the backend that answers."""
    connection = handler[name]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])
    finally:
        with contextlib.suppress(DatabaseError):
            connection.close()


def query_until_failure(handler: ConnectionHandler, name: str = "process-0") -> None:
    """Query until there is no answer: the backends of a killed server live on for a moment."""
    with contextlib.suppress(OperationalError):
        while True:
            query(handler, name)


def fill(handler: ConnectionHandler, size: int) -> None:
    """Make the default pool grow to `size` connections, all idle in the end."""
    together = threading.Barrier(size)

    def hold() -> None:
        with handler["process-0"].cursor():
            together.wait(20)
        handler["process-0"].close()

    with concurrent.futures.ThreadPoolExecutor(size) as threads:
        for done in [threads.submit(hold) for _ in range(size)]:
            done.result()


class Attempts(logging.Handler):
    """Count the failed attempts to connect, by pool."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[Any, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("error connecting") and isinstance(record.args, tuple):
            self.of[record.args[0]] = self.of.get(record.args[0], 0) + 1


@pytest.fixture
def attempts() -> Iterator[Attempts]:
    attempts = Attempts()
    logging.getLogger("psycopg.pool").addHandler(attempts)
    yield attempts
    logging.getLogger("psycopg.pool").removeHandler(attempts)


def test_django_uses_the_pool_of_channelbox(pools: Pools) -> None:
    connection = cast(DatabaseWrapper, pools(1)["process-0"])
    changed = "Django keeps its pools elsewhere: docs/decisions/database-pool.md"
    assert type(connection.pool) is Pool, changed
    assert vars(DatabaseWrapper)["_connection_pools"]["process-0"] is connection.pool, changed


def test_every_process_recovers_after_a_database_restart(
    server: PostgreSQLServer, pools: Pools, attempts: Attempts
) -> None:
    handler = pools(4)
    processes = [f"process-{number}" for number in range(4)]
    for name in processes:
        query(handler, name)
    server.kill()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for done in [threads.submit(query_until_failure, handler, name) for name in processes]:
            done.result()
    while len(attempts.of) < 4 or min(attempts.of.values()) < 5:
        for name in processes:  # callers never stop; a pool without callers need not reconnect
            with contextlib.suppress(OperationalError):
                query(handler, name)
    server.start()
    restarted = time.monotonic()
    for name in processes:
        while True:
            try:
                query(handler, name)
                break
            except OperationalError:
                assert time.monotonic() < restarted + RECOVERY_SECONDS
                time.sleep(0.05)


def test_all_terminated_connections_are_replaced_after_one_query(server: PostgreSQLServer, pools: Pools) -> None:
    handler = pools(1)
    with psycopg.connect(server.url("postgres"), autocommit=True) as administrator:
        fill(handler, 8)
        for _ in range(5):
            administrator.execute(TERMINATE_BACKENDS)
            query(handler)
            end = time.monotonic() + 5
            while administrator.execute(COUNT_BACKENDS).fetchone() != (8,):
                assert time.monotonic() < end
                time.sleep(0.02)


def test_callers_fail_fast_while_the_database_is_down(
    server: PostgreSQLServer, pools: Pools, attempts: Attempts
) -> None:
    handler = pools(1)
    query(handler)
    server.kill()
    query_until_failure(handler)
    while not attempts.of or min(attempts.of.values()) < 4:
        with contextlib.suppress(OperationalError):  # a pool without callers need not reconnect
            query(handler)
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        errors = [future.exception() for future in [threads.submit(query, handler) for _ in range(60)]]
    assert all(isinstance(error, OperationalError) for error in errors)
    assert time.monotonic() - began < 10  # about 1 is expected; 100 if each waits for its turn


def test_a_single_caller_waits_until_the_database_is_back(server: PostgreSQLServer, pools: Pools) -> None:
    """A worker, the only caller in its process, then continues with its current batch."""
    handler = pools(1)
    query(handler)
    server.stop()
    query_until_failure(handler)
    server.start()
    assert query(handler)


def test_repeated_errors_of_a_read_only_database_log_one_line(server: PostgreSQLServer, pools: Pools) -> None:
    stream = io.StringIO()
    logger = logging.Logger("test")
    logger.addHandler(Journal(stream))
    connection = pools(1)["process-0"]
    for _ in range(74):
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            try:
                cursor.execute("CREATE TABLE t ()")
            except DatabaseError:
                logger.exception("A frame could not be handled")
    (line,) = stream.getvalue().splitlines()
    assert "read-only" in line
    connection.close()
