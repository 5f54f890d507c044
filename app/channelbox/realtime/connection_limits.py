"""How many connections one person has in this process, and all who come from one address."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Close, Code, Refused


class Limit(NamedTuple):
    """`whose` is for the sentence of who is refused: "100 of yours", "10000 from your address"."""

    name: str
    most: int
    whose: str


class ConnectionLimits:
    """Counted here alone: over N processes one may have N times as many. That bounds what one client can cost each."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @staticmethod
    def current() -> "ConnectionLimits":
        """The running loop's."""
        return Bus.current().share(ConnectionLimits, ConnectionLimits)

    def enter(self, limits: Iterable[Limit]) -> list[str]:
        """Counts one more connection of each, and gives what `leave` wants. Raises Refused, and counts none then."""
        limits = list(limits)
        for name, most, whose in limits:
            if self._open[name] >= most:
                sentence = f"Too many connections: {most}{whose} are open."
                raise Refused(Code.TOO_MANY, sentence, close=Close.TOO_MUCH)
        names = [limit.name for limit in limits]
        self._open.update(names)
        return names

    def leave(self, names: list[str]) -> None:
        """What `enter` counted is gone. The list is emptied, so that a second call changes nothing."""
        for name in names:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]
        names.clear()
