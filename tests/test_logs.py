"""Log lines about outages and invalid requests are short and few; all others are unchanged."""

import io
import logging
from typing import Any

import pytest
import redis
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db import OperationalError
from django.utils.module_loading import import_string

from channelbox import logs


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logger(stream: io.StringIO) -> logging.Logger:
    """A logger that formats as the settings say, but writes to the stream of the test."""
    logger = logging.Logger("test")
    handlers: Any = settings.LOGGING["handlers"]
    logger.addHandler(import_string(handlers["stderr"]["class"])(stream))
    return logger


def fail(logger: logging.Logger, error: Exception) -> None:
    try:
        raise error
    except Exception:
        logger.exception("A frame could not be handled")


@pytest.mark.parametrize(
    "error",
    [OperationalError("away\nand more"), redis.ConnectionError("refused"), DisallowedHost("Invalid HTTP_HOST header")],
)
def test_repeated_outage_errors_are_one_line_a_minute(
    logger: logging.Logger, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for _ in range(74):
        fail(logger, error)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith(f"A frame could not be handled: {type(error).__name__}: {str(error).split()[0]}")
    now = logs.time.monotonic()
    monkeypatch.setattr(logs.time, "monotonic", lambda: now + 61)
    fail(logger, error)
    assert stream.getvalue().endswith("[73 similar messages suppressed]\n")


def test_outages_named_in_messages_are_logged_once_a_minute(logger: logging.Logger, stream: io.StringIO) -> None:
    for room in range(10):
        logger.warning("Room %s: history cannot be read: %s", room, redis.TimeoutError("late"))
    assert stream.getvalue() == "Room 0: history cannot be read: late\n"


def test_other_exceptions_keep_their_traceback_each_time(logger: logging.Logger, stream: io.StringIO) -> None:
    for _ in range(2):
        fail(logger, ZeroDivisionError("ours"))
        logger.warning("said %s", "often")
    assert stream.getvalue().count("Traceback") == 2
    assert stream.getvalue().count("said often") == 2


def test_reconnection_attempts_of_the_pool_are_logged_once(stream: io.StringIO) -> None:
    logger = logging.Logger("psycopg.pool")
    logger.addHandler(logs.Journal(stream))
    for _ in range(20):
        logger.warning("reconnection attempt in pool %r failed after %s sec", "pool-1", 1.5)
    assert stream.getvalue().count("reconnection") == 1
