"""Catch-up: limits how many bytes of missed events are sent when a client joins, and accounts for them.

A catch-up is written in one piece and stays in memory if the client does not read it. So there is a limit for all joins
of a process together and one for each person and each address (admission.py); a small amount is always sent. What
exceeds the limits is reported to the client as a gap, and the client reads it over HTTP.
"""

from django.conf import settings

from channelbox.realtime.admission import CATCH_UPS_SECONDS, Admission, Kind, Source
from channelbox.realtime.token_bucket import Bucket

MAX_EVENTS = 1000
MAX_BYTES = 1024 * 1024  # for one join
GUARANTEED_BYTES = 64 * 1024  # up to this much is sent on every join, whatever the limits say


class CatchUps:
    """The part of the common limit that all joins of this process use together."""

    def __init__(self) -> None:
        limit = settings.CHANNELBOX_CATCH_UP_BYTES
        self.sent = Bucket(limit / CATCH_UPS_SECONDS, limit)
        self.max_held = limit
        self.held = 0  # bytes that were read for joins in progress


class CatchUp:
    """The bytes that one join reads and sends. Call `end` when the join has ended, whether it succeeded or not."""

    __slots__ = ("_all", "_has_share", "_held", "_shares", "_source")

    def __init__(self, catch_ups: CatchUps, source: Source) -> None:
        self._all = catch_ups
        self._source = source
        self._held = 0
        self._shares: list[Bucket] = []
        self._has_share = True

    def keep(self, size: int) -> bool:
        """Account for all that was read so far, `size` bytes in total.

        Returns False if this exceeds a limit: then none of it may be kept.
        """
        shares = self._share_buckets()
        kept = size <= MAX_BYTES and (
            size <= GUARANTEED_BYTES
            or (self._all.held - self._held + size <= self._all.max_held and _have_tokens(shares))
        )
        added = (size if kept else 0) - self._held
        self._held += added
        self._all.held += added
        for bucket in shares:
            bucket.spend(added)
        return kept

    def may_send(self, size: int) -> bool:
        """Return whether `size` bytes may be written. If not, GUARANTEED_BYTES may.

        Call `send` afterwards, without an await in between.
        """
        self._shares = self._share_buckets()
        self._has_share = self._held > GUARANTEED_BYTES or _have_tokens(self._shares)
        return size <= GUARANTEED_BYTES or (self._has_share and not self._all.sent.wait())

    def send(self, size: int) -> None:
        """Account for `size` bytes that are written, after `may_send`."""
        for bucket in self._shares:
            bucket.spend(size - self._held)
        if self._has_share:  # guaranteed bytes beyond a client's own share do not reduce what others may get
            self._all.sent.spend(size)

    def end(self) -> None:
        self._all.held -= self._held

    def _share_buckets(self) -> list[Bucket]:
        return Admission.current().shares(Kind.CATCH_UPS, self._source)


def _have_tokens(shares: list[Bucket]) -> bool:
    return not any(bucket.wait() for bucket in shares)
