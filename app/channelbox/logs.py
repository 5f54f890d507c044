"""Log lines about what comes in numbers: one line for each place that meets it, once a minute, and how often it came.

An outage is met by every connection and every batch, and a client may send what Django refuses as often as it likes.
The traceback says nothing that the error's name does not, and hundreds of them hide the one that matters.
"""

import logging
import time
import traceback
from collections.abc import Hashable
from pathlib import Path
from typing import TextIO

PACKAGE = Path(__file__).parent
REPEATED_SECONDS = 60.0
MAX_KEYS = 1000
MAX_MESSAGE = 300  # characters of an exception's own words

# By name, because who needs neither Redis nor PostgreSQL does not import them.
OUTAGES = frozenset(
    (
        "django.db.utils.InterfaceError",
        "django.db.utils.OperationalError",
        "psycopg.InterfaceError",
        "psycopg.OperationalError",
        "psycopg.errors.ReadOnlySqlTransaction",
        "redis.exceptions.RedisError",
    )
)

REFUSED = "django.core.exceptions.SuspiciousOperation"  # a foreign Host, too many fields: answered with 400

OF_OUTAGES = frozenset(("psycopg.pool",))  # loggers that tell of nothing else, attempt by attempt


class Repeats:
    """Lets one line a minute through for each key."""

    def __init__(self, seconds: float = REPEATED_SECONDS) -> None:
        self._seconds = seconds
        self._held: dict[Hashable, tuple[float, int]] = {}  # let through when, held back since

    def pass_on(self, key: Hashable) -> int | None:
        """Return how many were held back since the last that passed, or None when this one is to be held back."""
        now = time.monotonic()
        since, held = self._held.get(key, (0.0, 0))
        if key in self._held and now < since + self._seconds:
            self._held[key] = since, held + 1
            return None
        if len(self._held) >= MAX_KEYS:
            self._held.clear()
        self._held[key] = now, 0
        return held


def place_of(error: BaseException) -> str:
    """Return our own line that met the error, as `folder/module.py:line`; empty where there is none."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(PACKAGE)]
    return f"{Path(ours[-1].filename).relative_to(PACKAGE)}:{ours[-1].lineno}" if ours else ""


def describe(error: BaseException) -> str:
    """Return type, message and place of an error in one line."""
    message = " ".join(str(error).split())
    if len(message) > MAX_MESSAGE:
        message = message[:MAX_MESSAGE] + "..."
    words = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"{words} ({place})" if (place := place_of(error)) else words


def repeated(held: int) -> str:
    """Return what the next line adds about those that were held back."""
    return f" [{held} similar messages suppressed]" if held else ""


class Journal(logging.StreamHandler[TextIO]):
    """Writes to standard error; in short and once a minute what tells of an outage or of a request that was refused."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        error = _expected_of(record)
        if error is not None or record.name in OF_OUTAGES:
            held = self._repeats.pass_on((record.name, record.lineno, type(error)))
            if held is None:
                return
            text = record.getMessage()
            if error is not None and record.exc_info:
                text += f": {describe(error)}"
            short = {"msg": text.replace("\n", " ") + repeated(held), "args": None, "exc_info": None, "exc_text": None}
            record = logging.makeLogRecord({**record.__dict__, **short, "stack_info": None})
        super().emit(record)


def _expected_of(record: logging.LogRecord) -> BaseException | None:
    """Return the outage or refusal that a record tells of: as its exception, or as one of its arguments."""
    told = list(record.args) if isinstance(record.args, tuple) else []
    if record.exc_info and record.exc_info[1] is not None:
        told.insert(0, record.exc_info[1])
    return next((each for each in told if isinstance(each, BaseException) and _is_expected(each)), None)


def _is_expected(error: BaseException) -> bool:
    """Django gives a read-only database as an InternalError, whose cause tells it from others."""
    kinds = [*type(error).__mro__, *type(error.__cause__).__mro__]
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}
    return REFUSED in names or not OUTAGES.isdisjoint(names)
