"""Admission: how much of each kind of work a connection, a person and an address may ask for.

`TABLE` has a row for each kind; docs/settings.md says the same for administrators. The buckets of a connection are its
own. Those of persons, addresses and rooms hold for all web processes (settlement.py). Sign-in is counted exactly, in
Redis, by accounts/throttle.py.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from django.conf import settings

from channelbox.realtime.bus import Bus
from channelbox.realtime.codes import Close, Code, Refused
from channelbox.realtime.keys import process_name
from channelbox.realtime.settlement import Settlement
from channelbox.realtime.token_bucket import Bucket, take

MAX_BUCKETS = 100_000  # of persons, addresses and rooms in a process, about 40 MB; the rest share one for each kind
STALL_SECONDS = 1.0  # of the rate on top of a burst: what a client sent on time may arrive late and all at once
FRAMES_PER_MESSAGE = 5  # frames of any kind, pings too, for each message that the rates allow
TYPING_SECONDS = 2.0  # between two typing frames of a connection
TYPING_BURST_SECONDS = 5.0
JOINS_BURST_SECONDS = 20.0
JOINS_ADDRESS_BURST_SECONDS = 10.0
REQUESTS_BURST_SECONDS = 10.0
ROOMS_BURST_SECONDS = 1200.0  # a third of what an hour allows
HOUR_SECONDS = 3600.0


class Kind(enum.StrEnum):
    """The kinds of work that clients ask for."""

    MESSAGES = "messages"
    TYPING = "typing"
    FRAMES = "frames"
    JOINS = "joins"
    ROOMS = "rooms"
    REQUESTS = "requests"


class Limit(NamedTuple):
    """A rate for each second in the long run, and how much at once."""

    rate: float
    burst: float


@dataclass(frozen=True)
class Row:
    """The limits of one kind, read from the settings when they are needed, and what a client is told past them."""

    person: Callable[[], Limit]
    address: Callable[[], Limit]
    connection: Callable[[], Limit] | None = None
    room: Callable[[], Limit] | None = None
    sentence: str = ""  # with {whose} and {wait}; "" where nobody is told
    of_person: str = ""  # `whose`, where it was the person's bucket
    close: Close | None = None


def _worth(rate: float, seconds: float) -> Limit:
    return Limit(rate, max(1.0, rate * seconds))


def _message_seconds() -> float:
    return settings.CHANNELBOX_RATE_BURST / settings.CHANNELBOX_RATE + STALL_SECONDS


def _frames(rate: float) -> Limit:
    return _worth(FRAMES_PER_MESSAGE * rate, _message_seconds())


TABLE = {
    # Refused with the message's id; the client sends it again after `retry_after`.
    Kind.MESSAGES: Row(
        connection=lambda: _worth(settings.CHANNELBOX_RATE, _message_seconds()),
        person=lambda: _worth(settings.CHANNELBOX_RATE_PERSON, _message_seconds()),
        address=lambda: _worth(settings.CHANNELBOX_RATE_ADDRESS, _message_seconds()),
        sentence="Too fast{whose}. Try again in {wait:.1f} s.",
        of_person=" over all your connections",
    ),
    # Left out: the next one says the same.
    Kind.TYPING: Row(
        connection=lambda: Limit(1 / TYPING_SECONDS, 1),
        person=lambda: _worth(settings.CHANNELBOX_TYPING_PERSON, TYPING_BURST_SECONDS),
        address=lambda: _worth(settings.CHANNELBOX_TYPING_ADDRESS, TYPING_BURST_SECONDS),
        room=lambda: _worth(settings.CHANNELBOX_TYPING_ROOM, TYPING_BURST_SECONDS),
    ),
    # Read later.
    Kind.FRAMES: Row(
        connection=lambda: _frames(settings.CHANNELBOX_RATE),
        person=lambda: _frames(settings.CHANNELBOX_RATE_PERSON),
        address=lambda: _frames(settings.CHANNELBOX_RATE_ADDRESS),
    ),
    # Accepted, told and closed.
    Kind.JOINS: Row(
        person=lambda: _worth(settings.CHANNELBOX_JOINS_PERSON, JOINS_BURST_SECONDS),
        address=lambda: _worth(settings.CHANNELBOX_JOINS_ADDRESS, JOINS_ADDRESS_BURST_SECONDS),
        sentence="Too many connections in a short time{whose}. Try again in {wait:.0f} s.",
        close=Close.TOO_MUCH,
    ),
    Kind.ROOMS: Row(
        person=lambda: _worth(settings.CHANNELBOX_NEW_ROOMS_PERSON / HOUR_SECONDS, ROOMS_BURST_SECONDS),
        address=lambda: _worth(settings.CHANNELBOX_NEW_ROOMS_ADDRESS / HOUR_SECONDS, ROOMS_BURST_SECONDS),
        sentence="Too many new rooms{whose}. Try again in {wait:.0f} s.",
        close=Close.TOO_MUCH,
    ),
    # Answered with 429.
    Kind.REQUESTS: Row(
        person=lambda: _worth(settings.CHANNELBOX_REQUESTS_PERSON, REQUESTS_BURST_SECONDS),
        address=lambda: _worth(settings.CHANNELBOX_REQUESTS_ADDRESS, REQUESTS_BURST_SECONDS),
        sentence="Too many requests{whose}. Try again in {wait:.0f} s.",
    ),
}


class Source:
    """A connection, its person (None: a stranger) and its address, for which work is counted.

    `person` goes to other processes in clear, so it is no secret; `address` is as address.network() gives it.
    """

    __slots__ = ("_own", "address", "person")

    def __init__(self, address: str, person: str | None = None) -> None:
        self.address = address
        self.person = person
        self._own: dict[Kind, Bucket] | None = None  # most connections only listen

    def own(self, kind: Kind) -> Bucket | None:
        """The connection's own bucket of this kind, where the kind has one."""
        limit = TABLE[kind].connection
        if limit is None:
            return None
        if self._own is None:
            self._own = {}
        if (bucket := self._own.get(kind)) is None:
            bucket = self._own[kind] = Bucket(*limit())
        return bucket


class Admission:
    """Takes tokens for work of all kinds in this process."""

    def __init__(self, settlement: Settlement) -> None:
        self.settlement = settlement

    @staticmethod
    def current() -> "Admission":
        """The running loop's."""
        return Bus.current().share(Admission, lambda: Admission(Settlement(Bus.current(), process_name())))

    def take(self, kind: Kind, source: Source, room: str | None = None) -> tuple[float, str]:
        """Take a token of each bucket, or none: seconds until all have one (0: taken), and whose bucket that is."""
        names, buckets = self._shared(kind, source, room)
        own = source.own(kind)
        wait, whose = take(buckets if own is None else [*buckets, own])
        if not wait:
            self._spent(names)
        return wait, whose

    def admit(self, kind: Kind, source: Source, id: str | None = None) -> None:
        """As `take`. Raises Refused with the row's words when that was too much; nothing is counted then."""
        wait, whose = self.take(kind, source)
        if wait:
            row = TABLE[kind]
            sentence = row.sentence.format(whose=whose, wait=wait)
            raise Refused(Code.TOO_FAST, sentence, id=id, retry_after=wait, close=row.close)

    def book(self, kind: Kind, source: Source) -> float:
        """Take tokens that may not be there yet. Returns the seconds to wait before the work is done."""
        names, buckets = self._shared(kind, source, None)
        own = source.own(kind)
        if own is not None:
            buckets.append(own)
        wait = max(bucket.wait() for bucket in buckets)
        for bucket in buckets:
            bucket.spend()
        self._spent(names)
        return wait

    def _spent(self, names: list[tuple[str, float]]) -> None:
        for name, rate in names:
            self.settlement.spent(name, rate)

    def _shared(self, kind: Kind, source: Source, room: str | None) -> tuple[list[tuple[str, float]], list[Bucket]]:
        """The buckets of person, address and room, with their names and rates."""
        row = TABLE[kind]
        names, buckets = [], []
        for of, who, limit, whose in (
            ("person", source.person, row.person, row.of_person),
            ("address", source.address, row.address, " from your address"),
            ("room", room, row.room, " in this room"),
        ):
            if who is None or limit is None:
                continue
            name = f"{kind} {of} {who}"
            rate, burst = limit()
            if name not in self.settlement and len(self.settlement) >= MAX_BUCKETS:
                # A flood of names: all who come new share what one address has.
                name, (rate, burst) = f"{kind} others", row.address()
            names.append((name, rate))
            buckets.append(self.settlement.bucket(name, rate, burst, whose))
        return names, buckets
