"""Fixtures that all tests share: a Redis and a database, started before Django reads its settings."""

import contextlib
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from tests.support.servers import PostgreSQLServer, RedisServer

if TYPE_CHECKING:
    from channelbox.realtime.bus import Bus

DATABASE = "channelbox_test"
STACK = pytest.StashKey[contextlib.ExitStack]()
REDIS = pytest.StashKey[RedisServer]()

# Other tests may run at the same time, and the checkout may be read-only.
hypothesis.settings.register_profile("channelbox", deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("channelbox")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=("sqlite", "postgresql"),
        default=os.environ.get("CHANNELBOX_TEST_DATABASE", "sqlite"),
        help="the database of the tests; also CHANNELBOX_TEST_DATABASE",
    )


def pytest_configure(config: pytest.Config) -> None:
    shares_out = config.getoption("numprocesses", 0) and not hasattr(config, "workerinput")  # to pytest-xdist's workers
    if config.option.help or config.option.version or shares_out:
        return
    stack = config.stash[STACK] = contextlib.ExitStack()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="channelbox-")))
    folder.chmod(0o755)
    redis = config.stash[REDIS] = RedisServer(folder / "redis")
    redis.start()
    stack.callback(redis.stop)
    if config.option.database == "postgresql":
        postgresql = PostgreSQLServer(folder / "database")
        postgresql.start()
        stack.callback(postgresql.stop)
        url, name = postgresql.url(DATABASE), DATABASE
    else:
        name = str(folder / "db.sqlite3")
        url = f"sqlite:///{name}"
    for variable in [variable for variable in os.environ if variable.startswith("CHANNELBOX_")]:
        del os.environ[variable]
    os.environ.update(
        CHANNELBOX_MODE="development",
        CHANNELBOX_NODE="test",
        CHANNELBOX_INSTANCE="tests",
        CHANNELBOX_REDIS_URL=redis.url,
        CHANNELBOX_DATABASE_URL=url,
        DJANGO_SETTINGS_MODULE="channelbox.settings",
    )
    from django.conf import settings
    from django.contrib.auth.management import create_permissions
    from django.db.models.signals import post_migrate

    settings.PASSWORD_HASHERS = ["tests.support.passwords.Cheap"]
    # Flushing the database after a test would create all permissions again, which no test needs.
    post_migrate.disconnect(create_permissions, dispatch_uid="django.contrib.auth.management.create_permissions")
    # Processes that a test starts read the same environment, so the test database has the name given there.
    settings.DATABASES["default"]["TEST"] = {"NAME": name}


def pytest_unconfigure(config: pytest.Config) -> None:
    if STACK in config.stash:
        config.stash[STACK].close()


@pytest.fixture(scope="session")
def django_db_modify_db_settings_xdist_suffix() -> None:
    """Keep the database's name: each worker of pytest-xdist has its own server or file."""


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> RedisServer:
    """The Redis of the settings. Tests that stop or freeze a Redis use `new_redis`."""
    return pytestconfig.stash[REDIS]


@pytest.fixture(autouse=True)
def _leave_nothing_in_the_process() -> Iterator[None]:
    """Undo the effects of a test on its process, as the order of tests and their modules is not fixed.

    Channels' consumers use the database connection of asgiref's single thread, even in tests without a database.
    """
    yield
    from asgiref.sync import SyncToAsync
    from django.db import connections

    from channelbox.realtime.counters import counters

    counters.draining = False
    SyncToAsync.single_thread_executor.submit(connections.close_all).result(10)


@pytest.fixture(autouse=True)
def _empty_redis(redis_server: RedisServer) -> Iterator[None]:
    yield
    with redis_server.client() as client:
        client.flushall()


@pytest.fixture
def without_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def new_redis() -> Iterator[Callable[..., RedisServer]]:
    """Return a function that starts a Redis for this test only, with options of redis-server's command line."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, port: int = 0) -> RedisServer:
            # Not in pytest's temporary folder: the path of a Unix socket has at most 107 bytes.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="channelbox-redis-")))
            server = RedisServer(folder, *options, port=port)
            server.start()
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
async def bus() -> AsyncIterator["Bus"]:
    """The running loop's bus, stopped after the test."""
    # Imported here, after Django has read its settings.
    from channelbox.realtime.bus import Bus

    bus = Bus.current()
    yield bus
    await bus.stop()
