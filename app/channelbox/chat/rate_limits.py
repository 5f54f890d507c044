"""How fast one client may send: as a connection, as a person with all of theirs, and as everybody at its address."""

from django.conf import settings

from channelbox.realtime.codes import Code, Refused
from channelbox.realtime.settlement import Settlement
from channelbox.realtime.token_bucket import Bucket, take


class RateLimits:
    """One connection's. Person and address, by the names under which they are counted, are settled with the others."""

    def __init__(self, settlement: Settlement, person: str, address: str) -> None:
        self._settlement = settlement
        seconds = settings.CHANNELBOX_RATE_BURST / settings.CHANNELBOX_RATE  # worth of the rate, at once
        self._shared = [
            (name, rate, max(1.0, rate * seconds), whose)
            for name, rate, whose in (
                (person, settings.CHANNELBOX_RATE_PERSON, " over all your connections"),
                (address, settings.CHANNELBOX_RATE_ADDRESS, " from your address"),
            )
        ]
        self._own = Bucket(settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST)

    def take(self, id: str) -> None:
        """Raises Refused when that was too fast for any of the three; nothing is counted then."""
        wait, whose = take([self._own, *(self._settlement.bucket(*shared) for shared in self._shared)])
        if wait:
            raise Refused(Code.TOO_FAST, f"Too fast{whose}. Try again in {wait:.1f} s.", id=id, retry_after=wait)
        for name, rate, _, _ in self._shared:
            self._settlement.spent(name, rate)
