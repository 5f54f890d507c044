"""A fair queue: a bounded number of turns at a time, given in rotation to addresses and, within them, to sessions."""

import asyncio
from collections import Counter, deque


class Crowded(Exception):
    """The queue is full, and this turn belongs to the address and session with the most turns waiting."""


class Turn:
    """A place in the queue. `granted` completes when the turn comes, and raises Crowded if the place is taken away."""

    __slots__ = ("_queue", "address", "granted", "session")

    def __init__(self, queue: "FairQueue", address: str, session: str) -> None:
        self._queue = queue
        self.address = address
        self.session = session
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """End the turn, or give up the place in the queue. May be called more than once."""
        self._queue._end(self)


class FairQueue:
    """Grants at most `at_once` turns at a time; at most `max_waiting` wait. Belongs to one event loop.

    `slow_seconds`: while turns are in use, another one is granted only when each of them has taken this long. Quick
    ones then follow one another, which leaves more of the processor to the event loop, and a slow one holds up the
    others no longer than this.

    When the queue is full, the newest turn of the session with the most waiting, at the address with the most waiting,
    is removed, so a flood displaces only itself. One session uses at most half of the turns at a time; "" means no
    session and has no such limit.
    """

    def __init__(self, at_once: int, max_waiting: int, slow_seconds: float = 0.0) -> None:
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._slow_seconds = slow_seconds
        self._max_per_session = max(1, at_once // 2)
        self._working: dict[Turn, float] = {}  # when each was granted, by the loop's clock, oldest first
        self._timer: asyncio.TimerHandle | None = None  # grants the next turn once those in use count as slow
        self._busy: Counter[tuple[str, str]] = Counter()  # turns in use, by address and session
        # Turns that wait, by address and session, in the order of rotation: the last to be served is at the end.
        self._addresses: dict[str, dict[str, deque[Turn]]] = {}
        self._waiting: dict[str, int] = {}  # by address
        self.waiting = 0

    def request(self, address: str, session: str) -> Turn:
        """Request a turn, which is granted at once if one is free.

        Raises Crowded if the queue is full and this turn is the one to be removed.
        """
        turn = Turn(self, address, session)
        self._addresses.setdefault(address, {}).setdefault(session, deque()).append(turn)
        self._waiting[address] = self._waiting.get(address, 0) + 1
        self.waiting += 1
        self._grant_next()
        if self.waiting > self._max_waiting:
            removed = self._to_remove()
            self._remove(removed)
            if removed is turn:
                raise Crowded
            removed.granted.set_exception(Crowded())
            removed.granted.exception()  # marked as retrieved: its client may be gone, and nobody may await it
        return turn

    def _grant_next(self) -> None:
        """Grant as many turns as are allowed now."""
        loop = asyncio.get_running_loop()
        while self.waiting and len(self._working) < self._at_once:
            newest = next(reversed(self._working.values()), None)
            if newest is not None and (wait := newest + self._slow_seconds - loop.time()) > 0:
                if self._timer is None:
                    self._timer = loop.call_later(wait, self._on_timer)
                return
            if (turn := self._next()) is None:
                return
            self._working[turn] = loop.time()
            self._busy[turn.address, turn.session] += 1
            turn.granted.set_result(None)

    def _on_timer(self) -> None:
        self._timer = None
        self._grant_next()

    def _end(self, turn: Turn) -> None:
        if turn in self._working:
            del self._working[turn]
            self._busy[turn.address, turn.session] -= 1
            if not self._busy[turn.address, turn.session]:
                del self._busy[turn.address, turn.session]
            self._grant_next()
        elif not turn.granted.done():
            turn.granted.cancel()
            self._remove(turn)

    def _may_start(self, address: str, session: str) -> bool:
        return not session or self._busy[address, session] < self._max_per_session

    def _next(self) -> Turn | None:
        """Take the next turn out of the queue, and move its session and its address to the end of the rotation."""
        for address, sessions in self._addresses.items():
            for session, turns in sessions.items():
                if self._may_start(address, session):
                    turn = turns[0]
                    self._remove(turn)
                    if turns:
                        sessions[session] = sessions.pop(session)
                    if sessions:
                        self._addresses[address] = self._addresses.pop(address)
                    return turn
        return None

    def _to_remove(self) -> Turn:
        address = max(self._waiting, key=self._waiting.__getitem__)
        return max(self._addresses[address].values(), key=len)[-1]

    def _remove(self, turn: Turn) -> None:
        sessions = self._addresses[turn.address]
        turns = sessions[turn.session]
        turns.remove(turn)
        self.waiting -= 1
        self._waiting[turn.address] -= 1
        if not turns:
            del sessions[turn.session]
        if not sessions:
            del self._addresses[turn.address]
            del self._waiting[turn.address]
