"""Effects: requests of a state machine to its transport and its display. Apply them in the order given.

Those of a call that is made while effects are applied follow these.
"""

from dataclasses import dataclass
from typing import Any

Frame = dict[str, Any]


@dataclass(frozen=True)
class Connect:
    """Open a new connection with this query ("" or "?after=..."), in place of any earlier one."""

    query: str


@dataclass(frozen=True)
class Drop:
    """Close the connection with 1000 and ignore everything that it still receives, including its close."""


@dataclass(frozen=True)
class Send:
    """Send this frame as JSON."""

    frame: Frame


@dataclass(frozen=True)
class State:
    """The state has changed: idle, connecting, catching_up, joined, waiting or stopped.

    `code` and `reason` are those of the close behind waiting and stopped; `until` is the time of the next attempt.
    """

    name: str
    code: int = 0
    reason: str = ""
    until: float | None = None


@dataclass(frozen=True)
class Welcome:
    """The connection is in the room."""

    frame: Frame


@dataclass(frozen=True)
class Event:
    """The next event of the room, in sequence and exactly once: show it."""

    event: Frame


@dataclass(frozen=True)
class Forget:
    """Clear the display: what follows does not continue it."""


@dataclass(frozen=True)
class Gap:
    """The events `first` to `last` will not come.

    `gone`: they are no longer in the record. Otherwise HTTP has them, and `Forget` follows.
    """

    first: int
    last: int
    gone: bool


@dataclass(frozen=True)
class Stored:
    """The message with this id is stored under this number."""

    id: str
    seq: int


@dataclass(frozen=True)
class Refused:
    """The message with this id was not stored, and is not sent again unless `retry` asks for it."""

    id: str
    code: str
    error: str


@dataclass(frozen=True)
class OutboxChanged:
    """The items of the outbox, or their states, have changed: show and keep them."""


@dataclass(frozen=True)
class Other:
    """A frame that changes no state: presence, typing, an error about no message, a later type."""

    frame: Frame


Effect = Connect | Drop | Send | State | Welcome | Event | Forget | Gap | Stored | Refused | OutboxChanged | Other
