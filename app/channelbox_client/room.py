"""A client's view of a room and its resume point: no hole, no duplicate, nothing of another room.

The resume point `last` is the newest number up to which the client has everything since where its display begins. It
advances with what is heard in sequence, and with what the server says does not come.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from channelbox_client.effects import Effect, Event, Forget, Frame, Gap, Other, Welcome

ANSWERS = ("stored", "pong")
MAX_NUMBER = 2**53 - 1  # JavaScript's, so that both clients take the same frames


@dataclass(frozen=True)
class Rejoin:
    """The server left something out without saying so: connect again, from `last`."""


class Room:
    """A room as one client sees it. Call `opened` for each connection, then `frame` with each frame."""

    def __init__(self, *, fills: bool = False) -> None:
        """`fills`: the client itself takes what HTTP has of a gap, as frames, before what follows on the socket."""
        self._fills = fills
        self.last: int | None = None  # the resume point; None: nothing is shown yet
        self.epoch: str | None = None  # of what is shown; None: not known
        self.floor = 1  # lower numbers are no longer in the record
        self.goal: int | None = None  # the room's newest number at the welcome, which `last` reaches on catching up
        self.you = ""
        self.guest = False
        self.may: Sequence[str] = ()
        self.limits: dict[str, Any] = {}
        self.version = ""
        self.welcomed = False
        self.joined = False
        self._undecided = False  # the next frame tells whether events continue the display
        self._offered_epoch: str | None = None  # of the welcome, until that is decided
        self._rejoined_for: tuple[int, int] | None = None  # missing events: (last, seq)

    @property
    def query(self) -> str:
        """Return the query of the address of the next connection."""
        if self.last is None:
            return ""
        return f"?after={self.last}" + (f"&epoch={quote(self.epoch, safe='')}" if self.epoch else "")

    @property
    def missed(self) -> int:
        """The number of events still to come before the client has caught up."""
        return max(0, self.goal - self.last) if self.goal is not None and self.last is not None else 0

    def opened(self) -> None:
        """Reset the state of the connection, which begins or has ended; it is known again after its welcome."""
        self.welcomed = self.joined = self._undecided = False
        self.goal = None

    def frame(self, frame: Frame) -> list[Effect | Rejoin]:
        """Take a frame. Answers and errors are the outbox's, and change nothing here."""
        kind = frame.get("type")
        seq = _number(frame.get("seq"))
        effects: list[Effect | Rejoin]
        if kind == "welcome":
            effects = self._welcome(frame, seq)
        elif kind == "gap":
            effects = self._gap(_number(frame.get("from")), _number(frame.get("to")), frame.get("gone") is True)
        elif kind in ANSWERS or "error" in frame:
            return []
        elif seq and isinstance(kind, str):
            effects = self._event(frame, seq)
        else:
            return [Other(frame)]
        if self.goal is not None and self.last is not None and self.last >= self.goal:
            self.joined = self.welcomed
        return effects

    # --- Frames

    def _welcome(self, frame: Frame, seq: int | None) -> list[Effect | Rejoin]:
        if self.welcomed or seq is None:  # only the first welcome of a connection counts
            return []
        self.welcomed = True
        self.you = _text(frame.get("you"))
        self.guest = frame.get("guest") is True
        self.version = _text(frame.get("version"))
        self.floor = _number(frame.get("floor")) or 1
        may, limits = frame.get("may"), frame.get("limits")
        self.may = tuple(may) if isinstance(may, list) else ()
        self.limits = limits if isinstance(limits, dict) else {}
        epoch = _text(frame.get("epoch")) or None
        resumed = frame.get("resumed") is True
        effects: list[Effect | Rejoin] = [Welcome(frame)]
        known = epoch is not None and self.epoch is not None  # whether the epochs can be compared
        if self.last is not None and (seq < self.last or (known and epoch != self.epoch)):
            effects += self._forget(epoch)
        elif self.last is not None and not resumed and not known:
            self._undecided, self._offered_epoch = True, epoch
        else:
            self.epoch = epoch or self.epoch
        if self.last is None and seq == 0:
            self.last = 0  # an empty room is complete
        self.goal = seq
        self.joined = not resumed
        return effects

    def _event(self, frame: Frame, seq: int) -> list[Effect | Rejoin]:
        if not self.welcomed:
            return []
        effects = self._decide()
        if self.last is not None:
            if seq <= self.last:
                return effects
            if seq > self.last + 1:
                missing = self._missing(self.last, seq)
                if not self.welcomed:
                    return effects + missing
                effects += missing
        self.last = seq
        return [*effects, Event(frame)]

    def _gap(self, first: int | None, last: int | None, gone: bool) -> list[Effect | Rejoin]:
        if not self.welcomed or first is None or last is None or last < first:
            return []
        effects: list[Effect | Rejoin] = []
        if not gone:
            if self._undecided:  # the same room, but too much was missed
                self._undecided, self.epoch = False, self._offered_epoch or self.epoch
            if self._fills:
                return [Gap(first, last, False)]
            if self.last is None or last > self.last:
                self.last = last
                effects += [Gap(first, last, False), Forget()]
            return effects
        effects += self._decide()
        if self.last is not None:
            if last <= self.last:
                return effects
            if first > self.last + 1:
                missing = self._missing(self.last, first)
                if not self.welcomed:
                    return effects + missing
                effects += missing
            first = self.last + 1
        self.last = last
        return [*effects, Gap(first, last, True)]

    def _missing(self, last: int, seq: int) -> list[Effect | Rejoin]:
        """Reconnect once for the numbers between these two; if they do not come then, the server does not have them."""
        if self._rejoined_for == (last, seq):
            return [Gap(last + 1, seq - 1, True)]
        self._rejoined_for = (last, seq)
        self.opened()
        return [Rejoin()]

    def _decide(self) -> list[Effect | Rejoin]:
        """Clear the display: the welcome did not continue it and no gap came, so it was another room."""
        if not self._undecided:
            return []
        self._undecided = False
        return self._forget(self._offered_epoch)

    def _forget(self, epoch: str | None) -> list[Effect | Rejoin]:
        self.last = None
        self.epoch = epoch
        return [Forget()]


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
