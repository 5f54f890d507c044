"""The hub's interface to the database: which room has a name, and the room's events."""

from typing import NamedTuple, Protocol

from channelbox.realtime.hub_room import HubRoom, Run

PAGE_EVENTS = 200  # in one read


class Identity(NamedTuple):
    """Identifies a room among all that have or had the same name.

    `key`: the key of the room's row, 0 if there is no room. `epoch`: changes when the room is recreated or a backup is
    restored, as event numbers then mean other events.
    """

    key: int
    epoch: str


def identity_of(room: HubRoom) -> Identity:
    """Return the identity that a room had when it was opened."""
    return Identity(room.key, room.epoch)


class Opened(NamedTuple):
    """A room as the database has it. `run` ends at the newest number, even if empty. Numbers below `floor` are gone."""

    identity: Identity
    floor: int
    run: Run


class Observed(NamedTuple):
    """The same as `Opened`, without events. `seq`: the newest number."""

    identity: Identity
    floor: int
    seq: int


NO_ROOM = Observed(Identity(0, ""), 1, 0)


class HistorySource(Protocol):
    """Reads rooms and events. Its methods may raise any exception; the hub tries again."""

    async def open(self, name: str) -> Opened:
        """Return the room that has this name, with its newest events."""

    async def after(self, name: str, identity: Identity, seq: int, most: int) -> Run:
        """Return up to `most` events after `seq`, oldest first, up to the first missing number.

        If the number after `seq` is missing itself, returns a run that says which numbers are gone. Raises LookupError
        if another room has the name now.
        """
