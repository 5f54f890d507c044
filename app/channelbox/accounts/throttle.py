"""Limits of sign-in attempts, counted exactly over the whole installation.

An attempt counts for its address, for its name from this address, and for its name from anywhere. A browser in which
the name has signed in before (known_browsers.py) has a counter of its own instead, so that a script that guesses
passwords for a name does not lock its owner out.

Every attempt is counted before the password is checked, so that a hundred concurrent attempts count as a hundred, and
is refunded if the password was right. A refused attempt counts for nothing: an address that is locked out cannot lock
out a name. A window starts with the first attempt and is never prolonged.

The counters are in Redis. While it does not answer, each process counts for itself: attempts stay limited, and people
can sign in.
"""

import hashlib
import logging
import math
import threading
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import redis
from django.conf import settings

from channelbox.realtime import redis_keys
from channelbox.realtime.client_address import network
from channelbox.realtime.sync_redis import clients

logger = logging.getLogger(__name__)

# KEYS: the counters. ARGV: the window in ms, then the limit of each counter. Returns the ms to wait; 0: counted.
TAKE = """
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or 0) >= tonumber(ARGV[i + 1]) then
    return math.max(redis.call('PTTL', key), 1)
  end
end
for _, key in ipairs(KEYS) do
  if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, ARGV[1]) end
end
return 0
"""
# KEYS: the counters. ARGV: for each, '1' to reset the counter, otherwise one attempt is subtracted.
REFUND = """
for i, key in ipairs(KEYS) do
  if ARGV[i] == '1' then
    redis.call('DEL', key)
  elseif tonumber(redis.call('GET', key) or 0) > 0 then
    redis.call('DECR', key)
  end
end
return 0
"""


class Counter(NamedTuple):
    """A counter's name in Redis and its limit.

    `own`: whether a correct password resets it, because its attempts were then nobody else's.
    """

    name: str
    limit: int
    own: bool


@dataclass(frozen=True)
class Attempt:
    """One attempt to sign in. The names of its counters do not reveal the name or the address that was tried."""

    counters: tuple[Counter, ...]

    @classmethod
    def of(cls, address: str, name: str, browser: str | None = None) -> "Attempt":
        """Return an attempt. `browser`: the identifier of a browser that knows this name; None for any other."""
        here, name = network(address), normalized(name)
        if browser is not None:
            return cls((Counter(_digest("browser", browser), settings.CHANNELBOX_SIGN_IN_NAME, own=True),))
        anywhere = settings.CHANNELBOX_SIGN_IN_NAME_ANYWHERE
        return cls(
            (
                Counter(_digest("address", here), settings.CHANNELBOX_SIGN_IN_ADDRESS, own=False),
                Counter(_digest("name here", f"{here} {name}"), settings.CHANNELBOX_SIGN_IN_NAME, own=True),
                Counter(_digest("name", name), anywhere, own=False),
            )
        )

    @classmethod
    def reauthentication(cls, user: int) -> "Attempt":
        """Return an attempt of a signed-in user to enter their password again. `user`: the primary key."""
        return cls((Counter(_digest("again", str(user)), settings.CHANNELBOX_SIGN_IN_NAME, own=True),))


def normalized(name: str) -> str:
    """Return the form of a name that is counted: names that look alike count as one."""
    return unicodedata.normalize("NFKC", name).casefold()


def take(attempt: Attempt) -> int:
    """Count an attempt. Returns 0, or the seconds for which such attempts are refused."""
    window = settings.CHANNELBOX_SIGN_IN_WINDOW
    names = [counter.name for counter in attempt.counters]
    limits = [counter.limit for counter in attempt.counters]
    try:
        wait = clients()[0].eval(TAKE, len(names), *names, int(window * 1000), *limits)
    except redis.RedisError as error:
        logger.warning("Sign-in attempts are counted in this process only: %s", error)
        return math.ceil(_local.take(attempt.counters, window))
    return math.ceil(int(wait) / 1000)


def refund(attempt: Attempt) -> None:
    """Take an attempt whose password was correct off the counters."""
    _local.refund(attempt.counters)
    try:
        names = [counter.name for counter in attempt.counters]
        clients()[0].eval(REFUND, len(names), *names, *(int(counter.own) for counter in attempt.counters))
    except redis.RedisError as error:
        logger.warning("Cannot remove a successful sign-in from the counters: %s", error)


def _digest(kind: str, text: str) -> str:
    return redis_keys.attempts(f"{kind}:{hashlib.sha256(text.encode()).hexdigest()[:32]}")


class LocalCounters:
    """Counters of this process, with the same rules, for when Redis does not answer."""

    MAX_COUNTERS = 10_000

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[str, tuple[int, float]] = {}

    def take(self, counters: Sequence[Counter], window: float) -> float:
        now = time.monotonic()
        with self.lock:
            if len(self.counts) >= self.MAX_COUNTERS:
                self.counts = {name: entry for name, entry in self.counts.items() if entry[1] > now}
            for name, limit, _ in counters:
                count, end = self.counts.get(name, (0, 0.0))
                if end > now and count >= limit:
                    return end - now
            if len(self.counts) >= self.MAX_COUNTERS:
                return window  # A flood of names: refuse new ones for a while rather than leave guesses uncounted.
            for name, _, _ in counters:
                count, end = self.counts.get(name, (0, 0.0))
                self.counts[name] = (count + 1, end) if end > now else (1, now + window)
        return 0

    def refund(self, counters: Sequence[Counter]) -> None:
        with self.lock:
            for name, _, own in counters:
                count, end = self.counts.get(name, (0, 0.0))
                if own:
                    self.counts.pop(name, None)
                elif count:
                    self.counts[name] = (count - 1, end)


_local = LocalCounters()
