"""Rate limits: how much of each kind of work a connection, a person and an address may ask for.

`TABLE` has a row for each kind of work; docs/settings.md explains the limits to administrators. A connection has token
buckets of its own. The buckets of persons, addresses and rooms are shared by all web processes (rate_sync.py). Sign-ins
are counted exactly, in Redis, by accounts/throttle.py.
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

MAX_BUCKETS = 50_000  # of persons, addresses and rooms in a process, about 25 MB; the rest share one per kind of work
# Seconds of the rate that are allowed on top of a burst: what a client sent on time may arrive late and all at once.
STALL_SECONDS = 1.0
FRAMES_PER_MESSAGE = 5  # frames of any kind, including pings, for each message that the rates allow
TYPING_SECONDS = 2.0  # between two typing frames from a connection
TYPING_BURST_SECONDS = 5.0
JOINS_BURST_SECONDS = 20.0
JOINS_ADDRESS_BURST_SECONDS = 10.0
REQUESTS_BURST_SECONDS = 10.0
ROOMS_BURST_SECONDS = 1200.0  # a third of what is allowed in an hour
HOUR_SECONDS = 3600.0
CATCH_UPS_SECONDS = 30.0  # after which a client that does not read its catch-up is cut off in most cases
CATCH_UPS_PERSON_SHARE, CATCH_UPS_ADDRESS_SHARE = 1 / 16, 1 / 4  # of what a process may send to all joining clients
MIN_CATCH_UPS_BYTES = 2 * 1024 * 1024  # twice the largest catch-up of one join
GUEST_ROOMS_FACTOR = 10  # all guests of an address together may create this many times the rooms of one person
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
    """The parameters of a token bucket: tokens per second in the long run, and the most at once."""

    rate: float
    burst: float


@dataclass(frozen=True)
class Row:
    """The limits of one kind of work, read from the settings on demand, and the error when one is exceeded."""

    person: Callable[[], Limit] | None = None
    address: Callable[[], Limit] | None = None
    connection: Callable[[], Limit] | None = None
    by_wire: bool = False  # the connection's bucket is kept by its ReadBudget, not here
    room: Callable[[], Limit] | None = None
    sentence: str = ""  # beginning of the error message; "" if the client gets no error
    person_suffix: str = ""  # appended to it if the person's bucket is empty
    close: Close | None = None


def _with_burst(rate: float, burst_seconds: float) -> Limit:
    return Limit(rate, max(1.0, rate * burst_seconds))


def _message_seconds() -> float:
    return settings.CHANNELBOX_RATE_BURST / settings.CHANNELBOX_RATE + STALL_SECONDS


def _frames(rate: float) -> Limit:
    return _with_burst(FRAMES_PER_MESSAGE * rate, settings.CHANNELBOX_RATE_BURST / settings.CHANNELBOX_RATE)


def _bytes(messages: float) -> Limit:
    """Return the limit in bytes for this many messages per second, at a connection's bytes per message."""
    rate = settings.CHANNELBOX_RATE_BYTES * messages / settings.CHANNELBOX_RATE
    at_once = _with_burst(rate, settings.CHANNELBOX_RATE_BURST / settings.CHANNELBOX_RATE)
    return Limit(rate, max(2 * settings.CHANNELBOX_FRAME_MAX, at_once.burst))


def _rooms(per_hour: float) -> Limit:
    return _with_burst(per_hour / HOUR_SECONDS, ROOMS_BURST_SECONDS)


def _catch_ups(share: float) -> Limit:
    at_once = max(MIN_CATCH_UPS_BYTES, settings.CHANNELBOX_CATCH_UP_BYTES * share)
    return Limit(at_once / CATCH_UPS_SECONDS, at_once)


TABLE = {
    # Refused with the message's id; the client sends the message again after `retry_after`.
    Kind.MESSAGES: Row(
        connection=lambda: _with_burst(settings.CHANNELBOX_RATE, _message_seconds()),
        person=lambda: _with_burst(settings.CHANNELBOX_RATE_PERSON, _message_seconds()),
        address=lambda: _with_burst(settings.CHANNELBOX_RATE_ADDRESS, _message_seconds()),
        sentence="Too many messages",
        person_suffix=" over all your connections",
    ),
    # Dropped without an error: the next typing frame says the same.
    Kind.TYPING: Row(
        connection=lambda: Limit(1 / TYPING_SECONDS, 1),
        person=lambda: _with_burst(settings.CHANNELBOX_TYPING_PERSON, TYPING_BURST_SECONDS),
        address=lambda: _with_burst(settings.CHANNELBOX_TYPING_ADDRESS, TYPING_BURST_SECONDS),
        room=lambda: _with_burst(settings.CHANNELBOX_TYPING_ROOM, TYPING_BURST_SECONDS),
    ),
    # Excess frames are read later. Control frames and fragments count too: the wire sees every frame.
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
    # The connection is accepted, gets the error and is closed.
    Kind.JOINS: Row(
        person=lambda: _with_burst(settings.CHANNELBOX_JOINS_PERSON, JOINS_BURST_SECONDS),
        address=lambda: _with_burst(settings.CHANNELBOX_JOINS_ADDRESS, JOINS_ADDRESS_BURST_SECONDS),
        sentence="Too many connections in a short time",
        close=Close.TOO_MUCH,
    ),
    # The room is not created; the client gets the error and is disconnected.
    Kind.ROOMS: Row(
        person=lambda: _rooms(settings.CHANNELBOX_NEW_ROOMS_PERSON),
        address=lambda: _rooms(settings.CHANNELBOX_NEW_ROOMS_ADDRESS),
        sentence=TOO_MANY_ROOMS,
        close=Close.TOO_MUCH,
    ),
    # The same for guests. A guest can become another person at any time, so all guests of an address share a low limit.
    Kind.GUEST_ROOMS: Row(
        person=lambda: _rooms(settings.CHANNELBOX_NEW_ROOMS_PERSON),
        address=lambda: _rooms(GUEST_ROOMS_FACTOR * settings.CHANNELBOX_NEW_ROOMS_PERSON),
        sentence=TOO_MANY_ROOMS,
        close=Close.TOO_MUCH,
    ),
    # The request is answered with status 429.
    Kind.REQUESTS: Row(
        person=lambda: _with_burst(settings.CHANNELBOX_REQUESTS_PERSON, REQUESTS_BURST_SECONDS),
        address=lambda: _with_burst(settings.CHANNELBOX_REQUESTS_ADDRESS, REQUESTS_BURST_SECONDS),
        sentence="Too many requests",
    ),
    # In bytes. Past the limit less is sent, and the client reads the rest over HTTP.
    Kind.CATCH_UPS: Row(
        person=lambda: _catch_ups(CATCH_UPS_PERSON_SHARE),
        address=lambda: _catch_ups(CATCH_UPS_ADDRESS_SHARE),
    ),
}


def connection_limit(kind: Kind) -> Limit:
    """Return the limit of one connection for this kind of work. Raises KeyError if the kind has no such limit."""
    if (limit := TABLE[kind].connection) is None:
        raise KeyError(kind)
    return limit()


def sentence(kind: Kind, wait: float, whose: str) -> str:
    """Return the error message for a client that has to wait.

    `wait`: the time in seconds. `whose`: the part of the sentence that names the exhausted limit, as `take` returns it.
    """
    seconds = f"{max(wait, 0.1):.1f}" if wait < 1 else math.ceil(wait)
    return f"{TABLE[kind].sentence}{whose}. Try again in {seconds} s."


class Source:
    """A connection with its address and its person, whose work is counted. Nothing is counted for one that is None.

    `person` is sent to Redis as it is, so it must not be a session key. `address` is a result of
    client_address.network().
    """

    __slots__ = ("address", "buckets", "person")

    def __init__(self, address: str | None, person: str | None = None) -> None:
        self.address = address
        self.person = person
        self.buckets: dict[Kind, Bucket] | None = None  # the connection's own, created on demand: most only listen


class Limits:
    """A row of the table, evaluated with the current settings."""

    def __init__(self, kind: Kind, row: Row) -> None:
        self.name = str(kind.value)  # formatting the enum member itself is slow
        self.connection = row.connection() if row.connection is not None and not row.by_wire else None
        self.person = row.person() if row.person is not None else None
        self.address = row.address() if row.address is not None else None
        self.room = row.room() if row.room is not None else None
        self.person_suffix = row.person_suffix


class Admission:
    """Takes tokens for all kinds of work in this process."""

    def __init__(self, rate_sync: RateSync) -> None:
        self.rate_sync = rate_sync
        self._limits: dict[Kind, Limits] = {}

    @staticmethod
    def current() -> "Admission":
        """Return the instance of the running event loop."""
        return Bus.current().share(Admission, lambda: Admission(RateSync(Bus.current(), process_name())))

    def take(self, kind: Kind, source: Source, room: str | None = None) -> tuple[float, str]:
        """Take a token from each bucket that limits this work, or from none.

        `room`: the room's name, if the kind of work is limited per room. Returns the seconds until all buckets have a
        token (0: the tokens were taken), and the words that name the bucket with the longest wait in an error message.
        """
        buckets, names = self._buckets(kind, source, room)
        wait, whose = take(buckets)
        if not wait:
            self._report_spent(names)
        return wait, whose

    def refund(self, kind: Kind, source: Source) -> None:
        """Put back the tokens that `take` took, for work that was not done."""
        buckets, names = self._buckets(kind, source, None)
        for bucket in buckets:
            bucket.refund()
        for name, rate in names:
            self.rate_sync.refunded(name, rate)

    def admit(self, kind: Kind, source: Source, id: str | None = None) -> None:
        """Take tokens as `take` does.

        `id`: of the message, for the error. Raises Refused, with the kind's error message and close code, if a bucket
        is empty; then no token is taken.
        """
        wait, whose = self.take(kind, source)
        if wait:
            raise Refused(Code.TOO_FAST, sentence(kind, wait, whose), id=id, retry_after=wait, close=TABLE[kind].close)

    def charge(self, source: Source, frames: int, size: int) -> float:
        """Charge what was read from a connection to the buckets of its person and its address, even if they are empty.

        `size` is in bytes. Returns the seconds until all of these buckets have a token. With 0 and 0 nothing is taken
        and no bucket is created.
        """
        if not frames and not size:
            return max(self._shared_wait(Kind.FRAMES, source), self._shared_wait(Kind.BYTES, source))
        longest = 0.0
        for kind, count in (Kind.FRAMES, frames), (Kind.BYTES, size):
            buckets, names = self._buckets(kind, source, None)
            for bucket in buckets:
                if count:
                    bucket.spend(count)
                longest = max(longest, bucket.wait())
            if count:
                self._report_spent(names, count)
        return longest

    def shares(self, kind: Kind, source: Source) -> list[Bucket]:
        """Return the buckets of the person and the address for work that costs only this process.

        What is spent from them directly is not reported to other processes. Call this again after each await, because
        idle buckets are deleted.
        """
        buckets, _ = self._buckets(kind, source, None)
        return buckets

    def _shared_wait(self, kind: Kind, source: Source) -> float:
        """Return the seconds until the buckets of the person and the address have a token; a missing one is full."""
        names = f"{kind.value} person {source.person}", f"{kind.value} address {source.address}"
        return max(self.rate_sync.wait(name) for name in names)

    def _report_spent(self, names: list[tuple[str, float]], count: int = 1) -> None:
        for name, rate in names:
            self.rate_sync.spent(name, rate, count)

    def _buckets(self, kind: Kind, source: Source, room: str | None) -> tuple[list[Bucket], list[tuple[str, float]]]:
        """Return all buckets that limit this work, and the names and rates of the shared ones."""
        limits = self._limits.get(kind)
        if limits is None:
            limits = self._limits[kind] = Limits(kind, TABLE[kind])
        buckets: list[Bucket] = []
        names: list[tuple[str, float]] = []
        if limits.connection is not None:
            buckets.append(_connection_bucket(kind, source, limits.connection))
        if source.person is not None and limits.person is not None:
            self._add_shared(
                f"{limits.name} person {source.person}", limits.person, limits.person_suffix, limits, buckets, names
            )
        if source.address is not None and limits.address is not None:
            self._add_shared(
                f"{limits.name} address {source.address}", limits.address, FROM_ADDRESS, limits, buckets, names
            )
        if room is not None and limits.room is not None:
            self._add_shared(f"{limits.name} room {room}", limits.room, IN_ROOM, limits, buckets, names)
        return buckets, names

    def _add_shared(
        self, name: str, limit: Limit, whose: str, limits: Limits, buckets: list[Bucket], names: list[tuple[str, float]]
    ) -> None:
        if len(self.rate_sync) >= MAX_BUCKETS and name not in self.rate_sync:
            # A flood of new names: all of them share one bucket, with the limit of one address.
            name, limit = f"{limits.name} others", limits.address or limit
        rate, burst = limit
        buckets.append(self.rate_sync.bucket(name, rate, burst, whose))
        names.append((name, rate))


def _connection_bucket(kind: Kind, source: Source, limit: Limit) -> Bucket:
    if source.buckets is None:
        source.buckets = {}
    if (bucket := source.buckets.get(kind)) is None:
        bucket = source.buckets[kind] = Bucket(*limit)
    return bucket
