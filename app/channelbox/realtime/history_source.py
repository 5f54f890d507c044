"""What the hub asks of the record: which room has a name, and the events in it."""

from typing import NamedTuple, Protocol

from channelbox.realtime.hub_room import Run


class Identity(NamedTuple):
    """Which of the rooms that have or had one name.

    `key`: of the room's row, 0 where there is none. `epoch`: another one when the room was made anew, or a backup was
    restored: numbers mean something else then.
    """

    key: int
    epoch: str


class Opened(NamedTuple):
    """A room as the record has it. An empty `run` ends at the newest number. Numbers below `floor` are gone."""

    identity: Identity
    floor: int
    run: Run


class Observed(NamedTuple):
    """The same without events. `seq`: the newest number."""

    identity: Identity
    floor: int
    seq: int


NO_ROOM = Observed(Identity(0, ""), 1, 0)


class HistorySource(Protocol):
    """The record of what was said. Its methods may raise anything: the hub tries again."""

    async def open(self, name: str) -> Opened: ...

    async def after(self, name: str, identity: Identity, seq: int, most: int) -> Run:
        """Return up to `most` events after `seq`, oldest first, up to a hole; where they begin with one, the hole.

        Raises LookupError where another room has the name now.
        """
