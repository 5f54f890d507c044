"""A connection that reconnects by itself: decides when to connect, when to ping and when to give up.

It owns no socket and no clock: call it with what happens and the time in seconds, apply the effects that it returns,
and call `tick` at `due`.
"""

import random as default_random
from collections.abc import Callable

from channelbox_client.effects import Connect, Drop, Effect, Frame, Other, Send, State

OPENING_TIMEOUT = 10.0  # s from the attempt until the connection is ready
SETTLED_SECONDS = 10.0  # s after which the delays start small again
MAX_DELAY_SECONDS = 8.0  # before jitter: with it 12 at most, and 3 are left of the 15 that are promised
SILENCE_SECONDS = 25.0  # without a frame before a ping
ANSWER_TIMEOUT = 5.0  # s from a ping to any frame

TOO_BIG, RESTART, TRY_LATER = 1009, 1012, 1013
ROOM_FULL, SIGN_IN, NOT_ALLOWED, TOO_MUCH = 4000, 4001, 4003, 4008
FINAL = frozenset((SIGN_IN, NOT_ALLOWED))  # a person has to act first


def delay(code: int, attempt: int, random: float) -> float:
    """Return the seconds to wait before attempt 0, 1, ... after this close code. `random`: 0 to 1, for jitter."""
    doublings: float = 2.0 ** min(attempt, 10)
    grown = min(MAX_DELAY_SECONDS, 0.5 * doublings)
    if code == RESTART and attempt == 0:
        return 0.2 + random * 2.3
    if code == TRY_LATER:
        return min(MAX_DELAY_SECONDS, 3.0 * doublings) * (0.5 + random)
    if code in (ROOM_FULL, TOO_MUCH):
        return 10.0 + random * 10.0
    return grown * (0.5 + random)


class Connection:
    """States: idle, connecting, open, waiting, stopped."""

    def __init__(
        self,
        query: Callable[[], str] = str,
        *,
        silence: float = SILENCE_SECONDS,
        random: Callable[[], float] = default_random.random,
    ) -> None:
        """`query` is called at each attempt; `silence`: seconds without a frame after which the server is pinged."""
        self.state = "idle"
        self.until: float | None = None  # time of the next attempt, while waiting
        self._query = query
        self._silence = silence
        self._random = random
        self._attempt = 0
        self._started_at = 0.0
        self._ready_at: float | None = None  # when the connection became ready
        self._heard_at = 0.0
        self._pinged_at: float | None = None  # when a ping was sent that is not answered yet

    @property
    def live(self) -> bool:
        """Return whether there is a connection, open or opening, whose frames count."""
        return self.state in ("connecting", "open")

    @property
    def due(self) -> float | None:
        """The time of the next call of `tick`; None: none is needed."""
        if self.state == "waiting":
            return self.until
        if not self.live:
            return None
        if self._ready_at is None:
            return self._started_at + OPENING_TIMEOUT
        return self._heard_at + self._silence if self._pinged_at is None else self._pinged_at + self._answer_timeout

    def connect(self, now: float) -> list[Effect]:
        """Connect at once, in place of any connection or wait."""
        self.state = "connecting"
        self.until = self._ready_at = self._pinged_at = None
        self._started_at = self._heard_at = now
        return [Connect(self._query()), State("connecting")]

    def heard(self, now: float, *, ready: bool = True) -> None:
        """Record a received frame. `ready`: whether the connection is usable, as a room's is after its welcome."""
        if not self.live:
            return
        self._heard_at = now
        self._pinged_at = None
        if ready and self._ready_at is None:
            self._ready_at = now
            self.state = "open"

    def frame(self, frame: Frame, now: float) -> list[Effect]:
        """Handle a received frame, parsed from JSON, of a connection without a room."""
        if not self.live:
            return []
        self.heard(now)
        return [Other(frame)]

    def closed(self, code: int, reason: str, now: float) -> list[Effect]:
        """Handle the end of the connection; code 0 or 1006: without a close frame."""
        if not self.live:
            return []
        if code in FINAL:
            self.state = "stopped"
            return [State("stopped", code, reason)]
        if self._ready_at is not None and now - self._ready_at > SETTLED_SECONDS:
            self._attempt = 0
        self.until = now + delay(code, self._attempt, self._random())
        self._attempt += 1
        self.state = "waiting"
        return [State("waiting", code, reason, self.until)]

    def give_up(self, now: float) -> list[Effect]:
        """End a connection that does not answer."""
        return [Drop(), *self.closed(0, "", now)] if self.live else []

    def leave(self) -> list[Effect]:
        """End the connection until `connect` is called, which starts with small delays again."""
        if self.state == "idle":
            return []
        self.state = "idle"
        self._attempt = 0
        return [Drop(), State("idle")]

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        due = self.due
        if due is None or now < due:
            return []
        if self.state == "waiting":
            return self.connect(now)
        if self._ready_at is None or self._pinged_at is not None:
            return self.give_up(now)
        return self._ping(now)

    def wake(self, now: float) -> list[Effect]:
        """Connect at once, or check the connection: the network or the person is back."""
        if self.state in ("waiting", "stopped"):
            return self.connect(now)
        return self.probe(now)

    def probe(self, now: float) -> list[Effect]:
        """Ping the server: the network may have changed under the connection."""
        return self._ping(now) if self.state == "open" and self._pinged_at is None else []

    @property
    def _answer_timeout(self) -> float:
        return min(self._silence, ANSWER_TIMEOUT)

    def _ping(self, now: float) -> list[Effect]:
        self._pinged_at = now
        return [Send({"type": "ping"})]
