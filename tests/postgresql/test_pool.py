"""Database connections while PostgreSQL is killed, restarted and ends its backends, with the product's own settings."""

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

BACK_SECONDS = 5  # for every pool; about 1 is expected
OURS = "backend_type = 'client backend' AND application_name LIKE 'channelbox%'"
COUNT = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}"
END = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"


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
    """Makes the connections of some processes, as far as anything shared goes: each with a pool of its own."""
    with django_db_blocker.unblock(), contextlib.ExitStack() as stack:

        def make(count: int) -> ConnectionHandler:
            database = read("DATABASES", CHANNELBOX_DATABASE_URL=server.url("postgres"))["DATABASES"]["default"]
            handler = ConnectionHandler({"default": {}, **{f"process-{number}": database for number in range(count)}})
            for name in handler:
                if name != "default":
                    stack.callback(cast(DatabaseWrapper, handler[name]).close_pool)
            return handler

        yield make


def ask(handler: ConnectionHandler, name: str = "process-0") -> int:
    """The process id of the backend that answers."""
    connection = handler[name]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])
    finally:
        with contextlib.suppress(DatabaseError):
            connection.close()


def until_it_fails(handler: ConnectionHandler, name: str = "process-0") -> None:
    """Asks until there is no answer: the backends of a server that was killed live on for a moment."""
    with contextlib.suppress(OperationalError):
        while True:
            ask(handler, name)


def fill(handler: ConnectionHandler, size: int) -> None:
    """Has the default pool grow to `size` connections, all idle in the end."""
    together = threading.Barrier(size)

    def hold() -> None:
        with handler["process-0"].cursor():
            together.wait(20)
        handler["process-0"].close()

    with concurrent.futures.ThreadPoolExecutor(size) as threads:
        for done in [threads.submit(hold) for _ in range(size)]:
            done.result()


class Attempts(logging.Handler):
    """Counts the attempts to connect that failed."""

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


def test_django_takes_our_pool(pools: Pools) -> None:
    connection = cast(DatabaseWrapper, pools(1)["process-0"])
    changed = "Django keeps its pools elsewhere: docs/decisions/database-pool.md"
    assert type(connection.pool) is Pool, changed
    assert vars(DatabaseWrapper)["_connection_pools"]["process-0"] is connection.pool, changed


def test_every_process_uses_a_database_that_is_back(server: PostgreSQLServer, pools: Pools, attempts: Attempts) -> None:
    handler = pools(4)
    processes = [f"process-{number}" for number in range(4)]
    for name in processes:
        ask(handler, name)
    server.kill()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for done in [threads.submit(until_it_fails, handler, name) for name in processes]:
            done.result()
    while len(attempts.of) < 4 or min(attempts.of.values()) < 5:
        for name in processes:  # as somebody always does; a pool that nobody asks need not try
            with contextlib.suppress(OperationalError):
                ask(handler, name)
    server.start()
    back = time.monotonic()
    for name in processes:
        while True:
            try:
                ask(handler, name)
                break
            except OperationalError:
                assert time.monotonic() < back + BACK_SECONDS
                time.sleep(0.05)


def test_one_failure_replaces_every_connection_that_died_with_it(server: PostgreSQLServer, pools: Pools) -> None:
    handler = pools(1)
    with psycopg.connect(server.url("postgres"), autocommit=True) as administrator:
        fill(handler, 8)
        for _ in range(5):
            administrator.execute(END)
            ask(handler)
            end = time.monotonic() + 5
            while administrator.execute(COUNT).fetchone() != (8,):
                assert time.monotonic() < end
                time.sleep(0.02)


def test_callers_do_not_queue_for_a_database_that_is_away(
    server: PostgreSQLServer, pools: Pools, attempts: Attempts
) -> None:
    handler = pools(1)
    ask(handler)
    server.kill()
    until_it_fails(handler)
    while not attempts.of or min(attempts.of.values()) < 4:
        with contextlib.suppress(OperationalError):  # a pool that nobody asks need not try
            ask(handler)
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        errors = [asked.exception() for asked in [threads.submit(ask, handler) for _ in range(60)]]
    assert all(isinstance(error, OperationalError) for error in errors)
    assert time.monotonic() - began < 10  # about 1 is expected; 100 if each waits for its turn


def test_one_caller_waits_for_the_database_and_gets_it(server: PostgreSQLServer, pools: Pools) -> None:
    """A worker, which alone asks, goes on with the batch in hand."""
    handler = pools(1)
    ask(handler)
    server.stop()
    until_it_fails(handler)
    server.start()
    assert ask(handler)


def test_a_read_only_database_is_one_line_in_the_journal(server: PostgreSQLServer, pools: Pools) -> None:
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
