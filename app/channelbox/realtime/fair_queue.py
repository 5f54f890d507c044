"""A bounded number at work at once; the others wait, and take turns by address and, within one, by session."""

import asyncio
from collections import Counter, deque


class Crowded(Exception):
    """As many wait as may, and nobody has more waiting than whoever is told this."""


class Turn:
    """A place in the queue. `granted` ends when it is this one's turn; raises Crowded when it is put out."""

    __slots__ = ("_queue", "address", "granted", "session")

    def __init__(self, queue: "FairQueue", address: str, session: str) -> None:
        self._queue = queue
        self.address = address
        self.session = session
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """Give the turn, or the place in the queue, back. May be called again."""
        self._queue._end(self)


class FairQueue:
    """Grants `at_once` turns at a time and has at most `max_waiting` wait. Belongs to one event loop.

    `slow_seconds`: a turn beside others is granted only when each of these has taken so long. Quick ones then follow
    one another, which leaves more of the processor to the event loop, and a slow one holds up nobody for longer.

    When it is full, the newest of the session with the most waiting, at the address with the most waiting, is put out:
    a flood crowds out itself. One session works on half of the turns at most; "" is no session, and has no such limit.
    """

    def __init__(self, at_once: int, max_waiting: int, slow_seconds: float = 0.0) -> None:
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._slow_seconds = slow_seconds
        self._most_of_a_session = max(1, at_once // 2)
        self._working: dict[Turn, float] = {}  # the time of the loop at which each was granted, in this order
        self._later: asyncio.TimerHandle | None = None  # when those at work will count as slow
        self._busy: Counter[tuple[str, str]] = Counter()  # of those, by address and session
        # In the order of their turns: who was served goes to the end.
        self._addresses: dict[str, dict[str, deque[Turn]]] = {}
        self._waiting: dict[str, int] = {}  # by address
        self.waiting = 0

    def ask(self, address: str, session: str) -> Turn:
        """Ask for a turn; it is granted at once when there is one. Raises Crowded."""
        turn = Turn(self, address, session)
        self._addresses.setdefault(address, {}).setdefault(session, deque()).append(turn)
        self._waiting[address] = self._waiting.get(address, 0) + 1
        self.waiting += 1
        self._grant_next()
        if self.waiting > self._max_waiting:
            out = self._longest()
            self._remove(out)
            if out is turn:
                raise Crowded
            out.granted.set_exception(Crowded())
            out.granted.exception()  # its client may be gone: nobody has to hear it
        return turn

    def _grant_next(self) -> None:
        """Grant as many turns as may be at work now."""
        loop = asyncio.get_running_loop()
        while self.waiting and len(self._working) < self._at_once:
            newest = next(reversed(self._working.values()), None)
            if newest is not None and (wait := newest + self._slow_seconds - loop.time()) > 0:
                if self._later is None:
                    self._later = loop.call_later(wait, self._look_again)
                return
            if (turn := self._next()) is None:
                return
            self._working[turn] = loop.time()
            self._busy[turn.address, turn.session] += 1
            turn.granted.set_result(None)

    def _look_again(self) -> None:
        self._later = None
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

    def _may_work(self, address: str, session: str) -> bool:
        return not session or self._busy[address, session] < self._most_of_a_session

    def _next(self) -> Turn | None:
        """Take whose turn it is out of the queue; its session and its address go to the end of the line."""
        for address, sessions in self._addresses.items():
            for session, turns in sessions.items():
                if self._may_work(address, session):
                    turn = turns[0]
                    self._remove(turn)
                    if turns:
                        sessions[session] = sessions.pop(session)
                    if sessions:
                        self._addresses[address] = self._addresses.pop(address)
                    return turn
        return None

    def _longest(self) -> Turn:
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
