"""People who come without an account, and those of them who use the protocol's freedoms."""

import asyncio
import ssl
import urllib.request

from tests.faults.client import Client

SESSION = "channelbox_session="
PAUSE_CHANCE, PAUSE_SECONDS = 0.01, 0.5


def guest_cookie(url: str, context: ssl.SSLContext | None = None) -> str:
    """The session that the page of rooms gives to a guest: with it what is sent again is recognised."""
    with urllib.request.urlopen(f"{url}/chat/", timeout=10, context=context) as answer:
        cookies = answer.headers.get_all("Set-Cookie") or []
    (session,) = [each.partition(";")[0] for each in cookies if each.startswith(SESSION)]
    return session


class Counter(Client):
    """Counts: its ids are those of every other one who counts."""

    def new_id(self) -> str:
        return str(self._count)


class Nameless(Client):
    """Says things without ids. Whether they were stored cannot be known, so nobody claims to have said them."""

    async def speak(self) -> None:
        await self.until(lambda: self.joined)
        self._count += 1
        self.send({"message": f"{self.name} says {self._count}"})


class Slow(Client):
    """Reads in fits and starts."""

    async def on_frame(self, frame: object) -> None:
        if self._chance.random() < PAUSE_CHANCE:
            await asyncio.sleep(PAUSE_SECONDS)
        await super().on_frame(frame)


KINDS: dict[str, type[Client]] = {"counter": Counter, "nameless": Nameless, "slow": Slow, "twin": Client}
CARELESS = (("counter", 2), ("nameless", 1), ("slow", 1), ("twin", 2))  # in each room; twins are one person
TALKING = ("sender", "counter", "nameless", "twin")
