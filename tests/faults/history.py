"""What everybody saw, line by line: the only thing that a verdict is made from."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class What:
    """The words of a history."""

    SAID = "said"  # a client decided to say this; from now on it waits for an answer
    SENT = "sent"  # it went out, perhaps for the second time
    ACCEPTED = "accepted"  # its sender was told that it is stored, with this number
    REFUSED = "refused"  # its sender was told that it is not stored; `note` is the code
    HEARD = "heard"  # a client got the event with this number
    AWAY = "away"  # a client left by its own will; until CONNECTED nobody expects it to hear
    CONNECTED = "connected"  # it was welcomed
    CLOSED = "closed"  # it lost its connection; `note` is the close code
    BEGINS = "begins"  # a fault; `note` is its name
    ENDS = "ends"
    STORED = "stored"  # a row of the database when all was over
    LATE = "late"  # this machine woke the checker late; `note` is by how many seconds
    BROKEN = "broken"  # a client met what the protocol rules out, or waited in vain


class Entry(NamedTuple):
    """One line. `at` is the machine's monotonic clock in seconds; what does not apply is empty or 0."""

    at: float
    who: str
    what: str
    room: str = ""
    id: str = ""
    seq: int = 0
    note: str = ""


class History:
    """Writes a history, one JSON list a line."""

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
    """Its lines, in the order of their time."""
    with path.open() as file:
        for line in file:
            yield Entry(*json.loads(line))
