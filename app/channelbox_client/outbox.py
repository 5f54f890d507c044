"""Messages that are not stored yet: sent in order, below the server's rate limits, and again after a reconnect.

A message is sent again only when it was refused with the advice to do so, or on a new connection: never twice on one.
"""

import json
import random as default_random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from channelbox_client.connection import TOO_BIG
from channelbox_client.effects import Effect, Frame, OutboxChanged, Refused, Send

MAX_ON_THE_WIRE = 20
SHARE = 0.5  # of the limits: a person's other connections count too, and a stall makes messages arrive at once
TEMPORARY = frozenset(("too_fast", "queue_full", "try_later"))  # also without `retry_after`
RETRY_SECONDS = 2.0  # if the error names no time
DEFAULT_RATE, DEFAULT_BURST = 10.0, 20.0  # if the welcome has no limits; messages a second, and at once


@dataclass
class Item:
    """A message, an announcement, or a deletion (kind "delete") of the event `seq` of the room's `epoch`.

    state: waiting, sent (an answer is to come) or failed (not stored: `code` and `error` say why). `until`: the time
    before which a refused message is not sent again.
    """

    id: str
    kind: str
    text: str = ""
    seq: int | None = None
    epoch: str | None = None
    state: str = "waiting"
    since: float = 0.0
    until: float | None = None
    code: str = ""
    error: str = ""

    @property
    def frame(self) -> Frame:
        """Return the frame that sends it."""
        if self.kind == "delete":
            return {"type": "delete", "seq": self.seq, "id": self.id}
        return {"type": self.kind, "message": self.text, "id": self.id}


class Outbox:
    """The items, oldest first."""

    def __init__(self, *, share: float = SHARE, random: Callable[[], float] = default_random.random) -> None:
        """`share`: the part of the server's limits that this client takes."""
        self.items: list[Item] = []
        self.ready = False  # joined: items may be sent
        self._share = share
        self._random = random
        self._rate, self._burst = DEFAULT_RATE, DEFAULT_BURST
        self._tokens: float | None = None
        self._refilled_at = 0.0
        self._paused_until = 0.0  # nothing is sent before
        self._awaiting_answers = False  # after a refusal: nothing is sent until all sent items are answered
        self.due: float | None = None  # when to call `pump`

    def __contains__(self, id: object) -> bool:
        return any(item.id == id for item in self.items)

    @property
    def unanswered(self) -> list[Item]:
        """Items that are neither stored nor refused."""
        return [item for item in self.items if item.state != "failed"]

    # --- What a person does

    def add(self, item: Item, now: float) -> list[Effect]:
        """Add an item, and send it in its turn."""
        item.since = now
        self.items.append(item)
        return [OutboxChanged(), *self.pump(now)]

    def restore(self, items: Iterable[Item], order: Callable[[Item], Any], now: float) -> list[Effect]:
        """Restore items that an earlier run left behind, each id once, in this order."""
        for item in items:
            if item.id not in self:
                if item.state != "failed":
                    _wait(item, now)
                self.items.append(item)
        self.items.sort(key=order)
        return [OutboxChanged(), *self.pump(now)]

    def retry(self, id: str, now: float) -> list[Effect]:
        """Send a failed item again."""
        for item in self.items:
            if item.id == id and item.state == "failed":
                _wait(item, now)
        return [OutboxChanged(), *self.pump(now)]

    def take(self, id: str) -> Item | None:
        """Take an item out, whatever its state; None: there is no such item."""
        for item in self.items:
            if item.id == id:
                self.items.remove(item)
                return item
        return None

    # --- What the connection does

    def resume(self, limits: dict[str, Any], epoch: str | None, now: float) -> list[Effect]:
        """Resume sending: the client has joined. A deletion of another epoch fails; it would remove another event."""
        self._rate = max(1.0, _positive(limits.get("rate"), DEFAULT_RATE / self._share) * self._share)
        self._burst = max(1.0, _positive(limits.get("burst"), DEFAULT_BURST / self._share) * self._share)
        self.ready = True
        effects: list[Effect] = []
        for item in self.unanswered:
            if item.kind == "delete" and item.epoch and epoch and item.epoch != epoch:
                effects += _fail(item, "no_message", "The room was re-created.")
        return [*effects, *([OutboxChanged()] if effects else []), *self.pump(now)]

    def suspend(self, code: int, now: float) -> list[Effect]:
        """Suspend sending: the connection has ended. Items without an answer are sent again with the same id."""
        self.ready = self._awaiting_answers = False
        self.due = None
        sent = [item for item in self.items if item.state == "sent"]
        effects: list[Effect] = []
        if code == TOO_BIG and sent:
            largest = max(sent, key=lambda item: len(json.dumps(item.text)))  # its size on the wire
            sent.remove(largest)
            effects += _fail(largest, "too_big", "")
        for item in sent:
            _wait(item, now)
        return [*effects, OutboxChanged()] if effects or sent else []

    def stored(self, id: str, now: float) -> list[Effect]:
        """Remove the item with this id, which is stored."""
        return [OutboxChanged(), *self.pump(now)] if self.take(id) else []

    def refused(self, frame: Frame, now: float) -> list[Effect]:
        """Handle an error frame, of a message or of the connection."""
        item = next((item for item in self.unanswered if item.id == frame.get("id")), None)
        code = str(frame.get("code") or "")
        seconds = retry_seconds(frame)
        if seconds is not None:
            self._paused_until = max(self._paused_until, now + seconds * (1.0 + 0.2 * self._random()))
            if item is not None:
                item.state, item.until = "waiting", self._paused_until
                self._awaiting_answers = True
        elif item is None:
            return []
        elif code == "removed" and item.kind == "delete":
            self.items.remove(item)  # by somebody else already, as wanted
            return [Refused(item.id, code, str(frame.get("error") or "")), OutboxChanged(), *self.pump(now)]
        else:
            effects = _fail(item, code, str(frame.get("error") or ""))
            return [*effects, OutboxChanged(), *self.pump(now)]
        return [OutboxChanged(), *self.pump(now)]

    def pump(self, now: float) -> list[Effect]:
        """Send what may go out now."""
        self.due = None
        on_the_wire = sum(item.state == "sent" for item in self.items)
        if not self.ready or (self._awaiting_answers and on_the_wire):
            return []
        effects: list[Effect] = []
        for item in self.items:
            if item.state != "waiting":
                continue
            if now < self._paused_until:
                self.due = self._paused_until
                break
            self._awaiting_answers = False
            if on_the_wire >= MAX_ON_THE_WIRE or not self._take_token(now):
                break
            item.state, item.since, item.until = "sent", now, None
            on_the_wire += 1
            effects.append(Send(item.frame))
        return [*effects, OutboxChanged()] if effects else []

    def _take_token(self, now: float) -> bool:
        if self._tokens is None:
            self._tokens = self._burst
        else:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._refilled_at) * self._rate)
        self._refilled_at = now
        if self._tokens < 1.0 - 1e-9:
            self.due = now + (1.0 - self._tokens) / self._rate
            return False
        self._tokens -= 1.0
        return True


def retry_seconds(frame: Frame) -> float | None:
    """Return the seconds after which what an error frame refuses may be sent again; None: it may not."""
    if frame.get("code") not in TEMPORARY and "retry_after" not in frame:
        return None
    return _positive(frame.get("retry_after"), RETRY_SECONDS)


def _wait(item: Item, now: float) -> None:
    item.state, item.since, item.until, item.code, item.error = "waiting", now, None, "", ""


def _fail(item: Item, code: str, error: str) -> list[Effect]:
    item.state, item.until, item.code, item.error = "failed", None, code, error
    return [Refused(item.id, code, error)]


def _positive(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else default
