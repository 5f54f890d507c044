"""The history of a run: everything that clients saw, and the only input of the verdict."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class What:
    """The kinds of entries in a history."""

    SAID = "said"  # a client queued this message; from now on it waits for an answer
    SENT = "sent"  # the message was sent, perhaps again
    ACCEPTED = "accepted"  # its sender learned that it is stored, with this number
    REFUSED = "refused"  # its sender learned that it is not stored; `note` is the error code
    HEARD = "heard"  # a client received the event with this number
    AWAY = "away"  # a client left on purpose; until CONNECTED it is not expected to receive anything
    CONNECTED = "connected"  # a client received its welcome
    CLOSED = "closed"  # a client lost its connection; `note` is the close code
    BEGINS = "begins"  # a fault begins; `note` is its name
    ENDS = "ends"  # a fault is over
    STORED = "stored"  # a row of the database at the end of the run
    LATE = "late"  # the checker woke up late because of the machine; `note` is the delay in seconds
    BROKEN = "broken"  # a client saw something that the protocol rules out, or timed out


class Entry(NamedTuple):
    """One line. `at` is the monotonic clock in seconds; fields that do not apply are empty or 0."""

    at: float
    who: str
    what: str
    room: str = ""
    id: str = ""
    seq: int = 0
    note: str = ""


class History:
    """Writes a history, one JSON list per line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("w")

    def add(self, who: str, what: str, room: str = "", id: str = "", seq: int = 0, note: str = "") -> None:
        self._file.write(json.dumps((round(time.monotonic(), 4), who, what, room, id, seq, note)) + "\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> Iterator[Entry]:
    """Yield the entries of a history, in the order of their times."""
    with path.open() as file:
        for line in file:
            yield Entry(*json.loads(line))
