"""Limits on the open connections of one person and of one address in this process."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Close, Code, Refused


class Limit(NamedTuple):
    """The name of a counter and its maximum. `whose` completes the error: "100 of yours", "10000 from your address"."""

    name: str
    maximum: int
    whose: str


class ConnectionLimits:
    """Counts of this process's open connections.

    Each process counts for itself, so over N processes the limits are N times as high. They bound what one client can
    cost each process.
    """

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @staticmethod
    def current() -> "ConnectionLimits":
        """Return the instance of the running event loop."""
        return Bus.current().share(ConnectionLimits, ConnectionLimits)

    def enter(self, limits: Iterable[Limit]) -> list[str]:
        """Count one more connection for each of these limits, and return the names to pass to `leave`.

        Raises Refused if one of the limits is reached; then none of them is counted.
        """
        limits = list(limits)
        for name, maximum, whose in limits:
            if self._open[name] >= maximum:
                sentence = f"Too many connections: {maximum}{whose} are open."
                raise Refused(Code.TOO_MANY, sentence, close=Close.TOO_MUCH)
        names = [limit.name for limit in limits]
        self._open.update(names)
        return names

    def leave(self, names: list[str]) -> None:
        """Subtract the connections that `enter` counted. The list is emptied, so a second call changes nothing."""
        for name in names:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]
        names.clear()
