"""How often somebody may try to sign in: counted for the address and for the name, over the whole installation.

Every attempt is counted before the password is looked at, so that a hundred attempts at once are counted as a hundred,
and given back when it was right. An attempt that is refused counts for nothing: an address that is shut out cannot shut
out a name. A window starts with the first attempt and is never prolonged: whoever is locked out because somebody else
guesses at their name gets a turn when it ends.

The counters are in Redis. While it does not answer each process counts for itself: attempts stay limited, and people
can sign in.
"""

import hashlib
import logging
import math
import threading
import time
import unicodedata
from dataclasses import dataclass

import redis
from django.conf import settings

from channelbox.realtime import keys
from channelbox.realtime.address import network
from channelbox.realtime.blocking import clients

logger = logging.getLogger(__name__)

# KEYS: the counters. ARGV: the window in ms, then the limit of each counter. Returns how long to wait in ms, 0 = go on.
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
# KEYS: the address' counter, the name's. The address gets this one attempt back: others behind it may be guessing.
GIVE_BACK = """
if tonumber(redis.call('GET', KEYS[1]) or 0) > 0 then redis.call('DECR', KEYS[1]) end
redis.call('DEL', KEYS[2])
"""


@dataclass(frozen=True)
class Attempt:
    """One try to sign in. Its counters' names tell nobody which name or address was tried."""

    address: str
    name: str

    @classmethod
    def of(cls, address: str, name: str) -> "Attempt":
        name = unicodedata.normalize("NFKC", name).casefold()
        return cls(_digest("address", network(address)), _digest("name", name))

    @classmethod
    def again(cls, user: int) -> "Attempt":
        """Somebody who is signed in gives their password once more."""
        return cls(_digest("again", str(user)), _digest("once more", str(user)))

    @property
    def counters(self) -> list[tuple[str, int]]:
        """Names and limits."""
        return [(self.address, settings.CHANNELBOX_SIGN_IN_ADDRESS), (self.name, settings.CHANNELBOX_SIGN_IN_NAME)]


def take(attempt: Attempt) -> int:
    """Counts an attempt. Returns 0, or for how many seconds nobody may try from this address or with this name."""
    window = settings.CHANNELBOX_SIGN_IN_WINDOW
    names, limits = zip(*attempt.counters, strict=True)
    try:
        wait = clients()[0].eval(TAKE, len(names), *names, int(window * 1000), *limits)
    except redis.RedisError as error:
        logger.warning("Sign-in attempts are counted in this process only: %s", error)
        return math.ceil(_local.take(attempt.counters, window))
    return math.ceil(int(wait) / 1000)


def give_back(attempt: Attempt) -> None:
    """The attempt was right."""
    _local.give_back(attempt)
    try:
        clients()[0].eval(GIVE_BACK, 2, attempt.address, attempt.name)
    except redis.RedisError as error:
        logger.warning("A sign-in was not taken off the counters: %s", error)


def _digest(kind: str, text: str) -> str:
    return keys.attempts(f"{kind}:{hashlib.sha256(text.encode()).hexdigest()[:32]}")


class Local:
    """The same rules within this process."""

    MOST = 10_000

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[str, tuple[int, float]] = {}

    def take(self, counters: list[tuple[str, int]], window: float) -> float:
        now = time.monotonic()
        with self.lock:
            if len(self.counts) >= self.MOST:
                self.counts = {name: entry for name, entry in self.counts.items() if entry[1] > now}
            for name, limit in counters:
                count, end = self.counts.get(name, (0, 0.0))
                if end > now and count >= limit:
                    return end - now
            if len(self.counts) >= self.MOST:
                return window  # A flood of names: better nobody new for a while than uncounted guesses.
            for name, _ in counters:
                count, end = self.counts.get(name, (0, 0.0))
                self.counts[name] = (count + 1, end) if end > now else (1, now + window)
        return 0

    def give_back(self, attempt: Attempt) -> None:
        with self.lock:
            count, end = self.counts.get(attempt.address, (0, 0.0))
            if count:
                self.counts[attempt.address] = (count - 1, end)
            self.counts.pop(attempt.name, None)


_local = Local()
