"""Guests, including clients that use the protocol in unusual but permitted ways."""

import asyncio
import ssl
import urllib.request

from tests.faults.client import Client

SESSION = "channelbox_session="
PAUSE_CHANCE, PAUSE_SECONDS = 0.01, 0.5


def guest_cookie(url: str, context: ssl.SSLContext | None = None) -> str:
    """Return the session cookie that the page of rooms sets for a guest, by which repeated messages are recognised."""
    with urllib.request.urlopen(f"{url}/chat/", timeout=10, context=context) as answer:
        cookies = answer.headers.get_all("Set-Cookie") or []
    (session,) = [each.partition(";")[0] for each in cookies if each.startswith(SESSION)]
    return session


class Counting(Client):
    """A client that uses 1, 2, 3 ... as ids, like every other client of this kind."""

    def new_id(self) -> str:
        return str(self._count)


class Nameless(Client):
    """A client that sends without ids, and cannot learn whether a message is stored, so it records none as said."""

    async def speak(self) -> None:
        await self.until(lambda: self.joined)
        self._count += 1
        self.send({"message": f"{self.name} says {self._count}"})


class Slow(Client):
    """A client that sometimes pauses reading."""

    async def on_frame(self, frame: object) -> None:
        if self._rng.random() < PAUSE_CHANCE:
            await asyncio.sleep(PAUSE_SECONDS)
        await super().on_frame(frame)


KINDS: dict[str, type[Client]] = {"counter": Counting, "nameless": Nameless, "slow": Slow, "twin": Client}
UNUSUAL = (("counter", 2), ("nameless", 1), ("slow", 1), ("twin", 2))  # per room; the twins are one person
TALKING = ("sender", "counter", "nameless", "twin")
