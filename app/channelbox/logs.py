"""Log formatting: outages and refused requests take one line a minute for each place in the code that meets them.

The line says how many were held back since the one before. Every connection and every batch meets an outage, and a
client may send requests that Django refuses as often as it likes. Their tracebacks say nothing that the error's name
does not, and hundreds of them hide the one that matters.
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
MAX_MESSAGE = 300  # characters of an exception's message

# By name, so that a process that needs neither Redis nor PostgreSQL does not import their packages.
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

REFUSED_REQUEST = "django.core.exceptions.SuspiciousOperation"  # an unknown Host, too many fields: status 400

OUTAGE_LOGGERS = frozenset(("psycopg.pool",))  # log only outages, each attempt


class Repeats:
    """Rate limiter that lets one line through for each key every `seconds`."""

    def __init__(self, seconds: float = REPEATED_SECONDS) -> None:
        self._seconds = seconds
        self._held: dict[Hashable, tuple[float, int]] = {}  # time of the last line let through, number held back since

    def pass_on(self, key: Hashable) -> int | None:
        """Return how many were held back since the last one let through, or None when this one is to be held back."""
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
    """Return the innermost line of the traceback that is in this package, as `folder/module.py:line`, or ""."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(PACKAGE)]
    return f"{Path(ours[-1].filename).relative_to(PACKAGE)}:{ours[-1].lineno}" if ours else ""


def describe(error: BaseException) -> str:
    """Return the type, message and place of an error in one line; a message longer than MAX_MESSAGE is cut."""
    message = " ".join(str(error).split())
    if len(message) > MAX_MESSAGE:
        message = message[:MAX_MESSAGE] + "..."
    words = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"{words} ({place})" if (place := place_of(error)) else words


def repeated(held: int) -> str:
    """Return what a line adds to say how many were held back before it; "" for none."""
    return f" [{held} similar messages suppressed]" if held else ""


class Journal(logging.StreamHandler[TextIO]):
    """Log handler for standard error that shortens and limits records of outages and refused requests."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        error = _expected_of(record)
        if error is not None or record.name in OUTAGE_LOGGERS:
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
    """Return the outage or refusal in the exception or the arguments of a record, or None."""
    candidates = list(record.args) if isinstance(record.args, tuple) else []
    if record.exc_info and record.exc_info[1] is not None:
        candidates.insert(0, record.exc_info[1])
    return next((each for each in candidates if isinstance(each, BaseException) and _is_expected(each)), None)


def _is_expected(error: BaseException) -> bool:
    """Return whether an error is an outage or a refusal, by its own type or its cause's.

    Django raises InternalError for a read-only database, and only the cause tells it from other errors.
    """
    kinds = [*type(error).__mro__, *type(error.__cause__).__mro__]
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}
    return REFUSED_REQUEST in names or not OUTAGES.isdisjoint(names)
