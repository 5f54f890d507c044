"""A person who keeps talking while the cluster has a fault."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Callable, Sequence

from websockets.exceptions import ConnectionClosed

from channelbox_client import Effect, Item, Outbox, Send

from .people import Member
from .waiting import until

RECOVERED_WITHIN = 30.0
"""How long after a fault people must hear each other again, in seconds."""


class Speaker:
    """Sends numbered messages all the time. The client library decides when to resend those without an answer."""

    def __init__(self, member: Member, pause: float = 0.25) -> None:
        self.member = member
        self.pause = pause
        self.said: list[str] = []
        self._outbox = Outbox()
        self._done = asyncio.Event()
        self._own = uuid.uuid4().hex[:8]
        self._read = 0  # number of the member's frames that were processed

    async def talk(self) -> None:
        """Send a message every `pause` seconds until `stop` is called, and reconnect when the connection is lost."""
        while not self._done.is_set():
            self.said.append(f"number {len(self.said) + 1}")
            item = Item(f"{self._own}-{len(self.said)}", "message", self.said[-1])
            await self._send(self._outbox.add(item, time.monotonic()))
            await self._turn()
            await asyncio.sleep(self.pause)

    async def stop(self) -> None:
        """Stop talking and wait until every message is answered."""
        self._done.set()
        await until(self._all_answered, RECOVERED_WITHIN, "everything that was said is stored")

    async def _all_answered(self) -> bool:
        await self._turn()
        return not self._outbox.unanswered

    async def _turn(self) -> None:
        """Process received frames, reconnect if necessary, and send what may be sent."""
        await self._look()
        if self.member.closed:
            self._outbox.suspend(self.member.closed[0], time.monotonic())
            with contextlib.suppress(OSError, ConnectionClosed, AssertionError, TimeoutError):
                await self.member.enter()
                await self._look()
        if not self.member.closed and not self._outbox.ready:
            await self._send(self._outbox.resume(self.member.has.limits, self.member.has.epoch, time.monotonic()))
        await self._send(self._outbox.pump(time.monotonic()))

    async def _look(self) -> None:
        for frame in self.member.frames[self._read :]:
            now = time.monotonic()
            if "error" in frame:
                await self._send(self._outbox.refused(frame, now))
            elif "seq" in frame:
                await self._send(self._outbox.stored(frame.get("id", ""), now))
        self._read = len(self.member.frames)

    async def _send(self, effects: Sequence[Effect]) -> None:
        with contextlib.suppress(OSError, ConnectionClosed):
            for effect in effects:
                if isinstance(effect, Send):
                    await self.member.send_text(json.dumps(effect.frame))


async def goes_on(
    first: Member, second: Member, fault: Callable[[], object], within: float = RECOVERED_WITHIN
) -> Speaker:
    """Let the first talk to the second during a fault: everything is stored and heard by both, without a gap.

    `fault` blocks until the fault is over. A message sent after that must be heard within `within` seconds. Return the
    speaker.
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
