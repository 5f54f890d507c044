"""Admission: how much of each kind of work a connection, a person and an address may ask for.

`TABLE` has a row for each kind; docs/settings.md says the same for administrators. The buckets of a connection are its
own. Those of persons, addresses and rooms hold for all web processes (rate_sync.py). Sign-in is counted exactly, in
Redis, by accounts/throttle.py.
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from django.conf import settings

from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Close, Code, Refused
from channelbox.realtime.rate_sync import RateSync
from channelbox.realtime.redis_keys import process_name
from channelbox.realtime.token_bucket import Bucket, take

MAX_BUCKETS = 50_000  # of persons, addresses and rooms in a process, about 25 MB; the rest share one for each kind
STALL_SECONDS = 1.0  # of the rate on top of a burst: what a client sent on time may arrive late and all at once
FRAMES_PER_MESSAGE = 5  # frames of any kind, pings too, for each message that the rates allow
TYPING_SECONDS = 2.0  # between two typing frames of a connection
TYPING_BURST_SECONDS = 5.0
JOINS_BURST_SECONDS = 20.0
JOINS_ADDRESS_BURST_SECONDS = 10.0
REQUESTS_BURST_SECONDS = 10.0
ROOMS_BURST_SECONDS = 1200.0  # a third of what an hour allows
HOUR_SECONDS = 3600.0
CATCH_UPS_SECONDS = 30.0  # after which a client that does not read what it asked for is mostly cut off
CATCH_UPS_OF_PERSON, CATCH_UPS_OF_ADDRESS = 1 / 16, 1 / 4  # of what a process sends to all who join
MIN_CATCH_UPS_BYTES = 2 * 1024 * 1024  # twice what one of them may have
GUESTS_TOGETHER = 10  # times what one person may make in rooms, for all guests of an address
FROM_ADDRESS, IN_ROOM = " from your address", " in this room"
TOO_MANY_ROOMS = "Too many new rooms"


class Kind(enum.StrEnum):
    """The kinds of work that clients ask for."""

    MESSAGES = "messages"
    TYPING = "typing"
    FRAMES = "frames"
    JOINS = "joins"
    ROOMS = "rooms"
    GUEST_ROOMS = "guest_rooms"
    REQUESTS = "requests"
    BYTES = "bytes"
    CATCH_UPS = "catch_ups"


class Limit(NamedTuple):
    """A rate for each second in the long run, and how much at once."""

    rate: float
    burst: float


@dataclass(frozen=True)
class Row:
    """The limits of one kind, read from the settings when they are needed, and what a client is told past them."""

    person: Callable[[], Limit] | None = None
    address: Callable[[], Limit] | None = None
    connection: Callable[[], Limit] | None = None
    by_wire: bool = False  # the connection's bucket is the wire's own
    room: Callable[[], Limit] | None = None
    sentence: str = ""  # its beginning; "" where nobody is told
    of_person: str = ""  # what follows, where it was the person's bucket
    close: Close | None = None


def _worth(rate: float, seconds: float) -> Limit:
    return Limit(rate, max(1.0, rate * seconds))


def _message_seconds() -> float:
    return settings.CHANNELBOX_RATE_BURST / settings.CHANNELBOX_RATE + STALL_SECONDS


def _frames(rate: float) -> Limit:
    return _worth(FRAMES_PER_MESSAGE * rate, settings.CHANNELBOX_RATE_BURST / settings.CHANNELBOX_RATE)


def _bytes(messages: float) -> Limit:
    """Return the bytes of what may send so many messages a second: as many for each as a connection has."""
    rate = settings.CHANNELBOX_RATE_BYTES * messages / settings.CHANNELBOX_RATE
    at_once = _worth(rate, settings.CHANNELBOX_RATE_BURST / settings.CHANNELBOX_RATE)
    return Limit(rate, max(2 * settings.CHANNELBOX_FRAME_MAX, at_once.burst))


def _rooms(an_hour: float) -> Limit:
    return _worth(an_hour / HOUR_SECONDS, ROOMS_BURST_SECONDS)


def _catch_ups(share: float) -> Limit:
    at_once = max(MIN_CATCH_UPS_BYTES, settings.CHANNELBOX_CATCH_UP_BYTES * share)
    return Limit(at_once / CATCH_UPS_SECONDS, at_once)


TABLE = {
    # Refused with the message's id; the client sends it again after `retry_after`.
    Kind.MESSAGES: Row(
        connection=lambda: _worth(settings.CHANNELBOX_RATE, _message_seconds()),
        person=lambda: _worth(settings.CHANNELBOX_RATE_PERSON, _message_seconds()),
        address=lambda: _worth(settings.CHANNELBOX_RATE_ADDRESS, _message_seconds()),
        sentence="Too fast",
        of_person=" over all your connections",
    ),
    # Left out: the next one says the same.
    Kind.TYPING: Row(
        connection=lambda: Limit(1 / TYPING_SECONDS, 1),
        person=lambda: _worth(settings.CHANNELBOX_TYPING_PERSON, TYPING_BURST_SECONDS),
        address=lambda: _worth(settings.CHANNELBOX_TYPING_ADDRESS, TYPING_BURST_SECONDS),
        room=lambda: _worth(settings.CHANNELBOX_TYPING_ROOM, TYPING_BURST_SECONDS),
    ),
    # Read later. Control frames and fragments count too: `wire` sees every frame.
    Kind.FRAMES: Row(
        by_wire=True,
        connection=lambda: _frames(settings.CHANNELBOX_RATE),
        person=lambda: _frames(settings.CHANNELBOX_RATE_PERSON),
        address=lambda: _frames(settings.CHANNELBOX_RATE_ADDRESS),
    ),
    Kind.BYTES: Row(
        by_wire=True,
        connection=lambda: _bytes(settings.CHANNELBOX_RATE),
        person=lambda: _bytes(settings.CHANNELBOX_RATE_PERSON),
        address=lambda: _bytes(settings.CHANNELBOX_RATE_ADDRESS),
    ),
    # Accepted, told and closed.
    Kind.JOINS: Row(
        person=lambda: _worth(settings.CHANNELBOX_JOINS_PERSON, JOINS_BURST_SECONDS),
        address=lambda: _worth(settings.CHANNELBOX_JOINS_ADDRESS, JOINS_ADDRESS_BURST_SECONDS),
        sentence="Too many connections in a short time",
        close=Close.TOO_MUCH,
    ),
    # Not made; the client is told and closed.
    Kind.ROOMS: Row(
        person=lambda: _rooms(settings.CHANNELBOX_NEW_ROOMS_PERSON),
        address=lambda: _rooms(settings.CHANNELBOX_NEW_ROOMS_ADDRESS),
        sentence=TOO_MANY_ROOMS,
        close=Close.TOO_MUCH,
    ),
    # The same for guests, who are somebody else whenever they like: those of one address have little together.
    Kind.GUEST_ROOMS: Row(
        person=lambda: _rooms(settings.CHANNELBOX_NEW_ROOMS_PERSON),
        address=lambda: _rooms(GUESTS_TOGETHER * settings.CHANNELBOX_NEW_ROOMS_PERSON),
        sentence=TOO_MANY_ROOMS,
        close=Close.TOO_MUCH,
    ),
    # Answered with 429.
    Kind.REQUESTS: Row(
        person=lambda: _worth(settings.CHANNELBOX_REQUESTS_PERSON, REQUESTS_BURST_SECONDS),
        address=lambda: _worth(settings.CHANNELBOX_REQUESTS_ADDRESS, REQUESTS_BURST_SECONDS),
        sentence="Too many requests",
    ),
    # Bytes: less is sent, and the rest is read over HTTP.
    Kind.CATCH_UPS: Row(
        person=lambda: _catch_ups(CATCH_UPS_OF_PERSON),
        address=lambda: _catch_ups(CATCH_UPS_OF_ADDRESS),
    ),
}


def connection_limit(kind: Kind) -> Limit:
    """Return what one connection may have of a kind that has such a limit. Raises KeyError for any other."""
    if (limit := TABLE[kind].connection) is None:
        raise KeyError(kind)
    return limit()


def sentence(kind: Kind, wait: float, whose: str) -> str:
    """Return what a client is told that has to wait so many seconds."""
    seconds = f"{max(wait, 0.1):.1f}" if wait < 1 else math.ceil(wait)
    return f"{TABLE[kind].sentence}{whose}. Try again in {seconds} s."


class Source:
    """A connection, its address and its person, for which work is counted; None: this one is not.

    `person` goes to Redis as it is, so it is no session's key; `address` is as address.network() gives it.
    """

    __slots__ = ("address", "buckets", "person")

    def __init__(self, address: str | None, person: str | None = None) -> None:
        self.address = address
        self.person = person
        self.buckets: dict[Kind, Bucket] | None = None  # the connection's own; most only listen


class Limits:
    """A row of the table, with the numbers that the settings have now."""

    def __init__(self, kind: Kind, row: Row) -> None:
        self.name = str(kind.value)  # formatting the member itself is slow
        self.connection = row.connection() if row.connection is not None and not row.by_wire else None
        self.person = row.person() if row.person is not None else None
        self.address = row.address() if row.address is not None else None
        self.room = row.room() if row.room is not None else None
        self.of_person = row.of_person


class Admission:
    """Takes tokens for work of all kinds in this process."""

    def __init__(self, rate_sync: RateSync) -> None:
        self.rate_sync = rate_sync
        self._limits: dict[Kind, Limits] = {}

    @staticmethod
    def current() -> "Admission":
        """The running loop's."""
        return Bus.current().share(Admission, lambda: Admission(RateSync(Bus.current(), process_name())))

    def take(self, kind: Kind, source: Source, room: str | None = None) -> tuple[float, str]:
        """Take a token of each bucket, or none: seconds until all have one (0: taken), and whose bucket that is."""
        buckets, names = self._buckets(kind, source, room)
        wait, whose = take(buckets)
        if not wait:
            self._spent(names)
        return wait, whose

    def refund(self, kind: Kind, source: Source) -> None:
        """Put back what `take` took, for work that was not done."""
        buckets, names = self._buckets(kind, source, None)
        for bucket in buckets:
            bucket.refund()
        for name, rate in names:
            self.rate_sync.refunded(name, rate)

    def admit(self, kind: Kind, source: Source, id: str | None = None) -> None:
        """As `take`. Raises Refused with the row's words when that was too much; nothing is counted then."""
        wait, whose = self.take(kind, source)
        if wait:
            raise Refused(Code.TOO_FAST, sentence(kind, wait, whose), id=id, retry_after=wait, close=TABLE[kind].close)

    def charge(self, source: Source, frames: int, size: int) -> float:
        """Take what was read of a connection from its person's and its address' buckets, also what is not there.

        `size` is in bytes. Returns the seconds until all of the buckets have a token; with 0 and 0 that alone, and no
        bucket is made for it.
        """
        if not frames and not size:
            return max(self._empty_for(Kind.FRAMES, source), self._empty_for(Kind.BYTES, source))
        longest = 0.0
        for kind, count in (Kind.FRAMES, frames), (Kind.BYTES, size):
            buckets, names = self._buckets(kind, source, None)
            for bucket in buckets:
                if count:
                    bucket.spend(count)
                longest = max(longest, bucket.wait())
            if count:
                self._spent(names, count)
        return longest

    def shares(self, kind: Kind, source: Source) -> list[Bucket]:
        """Return the buckets of the person and the address for what costs this process alone: no other hears of it.

        Ask again after each await: idle ones are let go.
        """
        buckets, _ = self._buckets(kind, source, None)
        return buckets

    def _empty_for(self, kind: Kind, source: Source) -> float:
        """Return the seconds until the person's and the address' bucket have a token; one that is not there is full."""
        names = f"{kind.value} person {source.person}", f"{kind.value} address {source.address}"
        return max(self.rate_sync.wait(name) for name in names)

    def _spent(self, names: list[tuple[str, float]], count: int = 1) -> None:
        for name, rate in names:
            self.rate_sync.spent(name, rate, count)

    def _buckets(self, kind: Kind, source: Source, room: str | None) -> tuple[list[Bucket], list[tuple[str, float]]]:
        """Return all buckets of this work, and the names and rates of those that are shared."""
        limits = self._limits.get(kind)
        if limits is None:
            limits = self._limits[kind] = Limits(kind, TABLE[kind])
        buckets: list[Bucket] = []
        names: list[tuple[str, float]] = []
        if limits.connection is not None:
            buckets.append(_own(kind, source, limits.connection))
        if source.person is not None and limits.person is not None:
            self._share(
                f"{limits.name} person {source.person}", limits.person, limits.of_person, limits, buckets, names
            )
        if source.address is not None and limits.address is not None:
            self._share(f"{limits.name} address {source.address}", limits.address, FROM_ADDRESS, limits, buckets, names)
        if room is not None and limits.room is not None:
            self._share(f"{limits.name} room {room}", limits.room, IN_ROOM, limits, buckets, names)
        return buckets, names

    def _share(
        self, name: str, limit: Limit, whose: str, limits: Limits, buckets: list[Bucket], names: list[tuple[str, float]]
    ) -> None:
        if len(self.rate_sync) >= MAX_BUCKETS and name not in self.rate_sync:
            # A flood of names: all who come new share what one address has.
            name, limit = f"{limits.name} others", limits.address or limit
        rate, burst = limit
        buckets.append(self.rate_sync.bucket(name, rate, burst, whose))
        names.append((name, rate))


def _own(kind: Kind, source: Source, limit: Limit) -> Bucket:
    if source.buckets is None:
        source.buckets = {}
    if (bucket := source.buckets.get(kind)) is None:
        bucket = source.buckets[kind] = Bucket(*limit)
    return bucket
