"""Somebody who goes on talking while the cluster suffers."""

import asyncio
import contextlib
import uuid

from websockets.exceptions import ConnectionClosed

from .people import Member
from .waiting import until

RECOVERED_WITHIN = 30.0
"""How long a fault may keep people from each other, in seconds."""


class Speaker:
    """Says one, two, three ... all the time, and again what was not answered, as the page does."""

    def __init__(self, member: Member, pause: float = 0.25) -> None:
        self.member = member
        self.pause = pause
        self.unanswered: dict[str, str] = {}
        self.said: list[str] = []
        self._done = asyncio.Event()
        self._own = uuid.uuid4().hex[:8]

    async def talk(self) -> None:
        """Until `stop`: one message every `pause`, reconnecting when the connection is gone."""
        number = 0
        while not self._done.is_set():
            number += 1
            text = f"number {number}"
            self.said.append(text)
            id = f"{self._own}-{number}"
            self.unanswered[id] = text
            with contextlib.suppress(OSError, ConnectionClosed, AssertionError, TimeoutError):
                if self.member.closed:
                    await self.member.enter()
                    await self._say_all()
                else:
                    await self.member.say(text, id)
            await asyncio.sleep(self.pause)

    async def stop(self) -> None:
        """Stop talking and see every message answered."""
        self._done.set()
        await until(self._all_answered, RECOVERED_WITHIN, "everything that was said is stored")

    async def _all_answered(self) -> bool:
        for frame in self.member.frames:
            if "seq" in frame:
                self.unanswered.pop(frame.get("id", ""), None)
        with contextlib.suppress(OSError, ConnectionClosed, AssertionError, TimeoutError):
            if self.member.closed:
                await self.member.enter()
                await self._say_all()
        return not self.unanswered

    async def _say_all(self) -> None:
        for frame in self.member.frames:
            if "seq" in frame:
                self.unanswered.pop(frame.get("id", ""), None)
        for id, text in list(self.unanswered.items()):
            await self.member.say(text, id)
