"""Catching up: how many bytes of what somebody missed are sent at once, and whose share they come out of.

What is sent on joining is written in one piece and waits in memory for a client that may not read it. So there is a
bound for all joins of a process together, one for each person and each address (admission.py), and a small part that
everybody gets. What is more is told as a gap, and read over HTTP.
"""

from django.conf import settings

from channelbox.realtime.admission import CATCH_UPS_SECONDS, Admission, Kind, Source
from channelbox.realtime.token_bucket import Bucket

MAX_EVENTS = 1000
MAX_BYTES = 1024 * 1024  # for one join
SMALL_BYTES = 64 * 1024  # as much is sent to everybody


class CatchUps:
    """What the joins of this process have of the bound that holds for all of them."""

    def __init__(self) -> None:
        most = settings.CHANNELBOX_CATCH_UP_BYTES
        self.sent = Bucket(most / CATCH_UPS_SECONDS, most)
        self.most_held = most
        self.held = 0  # bytes that were read for joins that are under way


class CatchUp:
    """What one join reads and sends, in bytes. Call `end` when it is over, whatever came of it."""

    __slots__ = ("_all", "_has_share", "_held", "_shares", "_source")

    def __init__(self, catch_ups: CatchUps, source: Source) -> None:
        self._all = catch_ups
        self._source = source
        self._held = 0
        self._shares: list[Bucket] = []
        self._has_share = True

    def keep(self, size: int) -> bool:
        """Count all that was read so far. False: that is too much, and nothing of it may be kept."""
        shares = self._find_shares()
        kept = size <= MAX_BYTES and (
            size <= SMALL_BYTES or (self._all.held - self._held + size <= self._all.most_held and _have_left(shares))
        )
        added = (size if kept else 0) - self._held
        self._held += added
        self._all.held += added
        for bucket in shares:
            bucket.spend(added)
        return kept

    def may_send(self, size: int) -> bool:
        """Return whether so much may be written; where it may not, SMALL_BYTES may. `send` follows without an await."""
        self._shares = self._find_shares()
        self._has_share = self._held > SMALL_BYTES or _have_left(self._shares)
        return size <= SMALL_BYTES or (self._has_share and not self._all.sent.wait())

    def send(self, size: int) -> None:
        """Count what is written, after `may_send`."""
        for bucket in self._shares:
            bucket.spend(size - self._held)
        if self._has_share:  # what everybody gets does not come out of the others' shares
            self._all.sent.spend(size)

    def end(self) -> None:
        self._all.held -= self._held

    def _find_shares(self) -> list[Bucket]:
        return Admission.current().shares(Kind.CATCH_UPS, self._source)


def _have_left(shares: list[Bucket]) -> bool:
    return not any(bucket.wait() for bucket in shares)
