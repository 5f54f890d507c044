"""Somebody who goes on talking while the cluster suffers."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable

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
        self._read = 0  # frames of the member that were looked at
        self._again = 0.0  # when what was refused may be sent again; nothing new goes out before

    async def talk(self) -> None:
        """Until `stop`: one message every `pause`, reconnecting when the connection is gone."""
        number = 0
        while not self._done.is_set():
            number += 1
            text = f"number {number}"
            self.said.append(text)
            id = f"{self._own}-{number}"
            self.unanswered[id] = text
            self._look()
            if self._again or self.member.closed:
                await self._catch_up()
            else:
                with contextlib.suppress(OSError, ConnectionClosed):
                    await self.member.say(text, id)
            await asyncio.sleep(self.pause)

    async def stop(self) -> None:
        """Stop talking and see every message answered."""
        self._done.set()
        await until(self._all_answered, RECOVERED_WITHIN, "everything that was said is stored")

    async def _all_answered(self) -> bool:
        self._look()
        await self._catch_up()
        return not self.unanswered

    def _look(self) -> None:
        """At what came: answers, and refusals with the time to send again."""
        for frame in self.member.frames[self._read :]:
            if "seq" in frame:
                self.unanswered.pop(frame.get("id", ""), None)
            elif frame.get("id") in self.unanswered and "retry_after" in frame:
                self._again = max(self._again, time.monotonic() + frame["retry_after"])
        self._read = len(self.member.frames)

    async def _catch_up(self) -> None:
        """Says again, oldest first, what has no answer: on a new connection, or when what was refused is due."""
        with contextlib.suppress(OSError, ConnectionClosed, AssertionError, TimeoutError):
            if self.member.closed:
                await self.member.enter()
                self._look()
            elif not self._again or time.monotonic() < self._again:
                return
            self._again = 0.0
            for id, text in list(self.unanswered.items()):
                await self.member.say(text, id)


async def goes_on(
    first: Member, second: Member, fault: Callable[[], object], within: float = RECOVERED_WITHIN
) -> Speaker:
    """The first talks to the second through a fault: what was said is stored and heard by both, without a gap.

    `fault` blocks until it is over; `within` seconds later what is said from then on is heard. Gives who talked.
    """
    speaker = Speaker(first)
    talking = asyncio.create_task(speaker.talk())
    await second.hears("number 3")
    await asyncio.to_thread(fault)
    await second.hears(f"number {len(speaker.said) + 1}", within=within)
    await speaker.stop()
    await talking
    await second.hears(speaker.said[-1])
    assert list(second.messages) == list(range(1, len(speaker.said) + 1))
    assert first.messages == second.messages
    return speaker
