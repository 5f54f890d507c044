"""A client that keeps sending messages while the cluster has a fault."""

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
"""Seconds after a fault within which messages must be delivered again."""


class Speaker:
    """Sends numbered messages all the time. The client library decides when to resend those without an answer."""

    def __init__(self, member: Member, pause: float = 0.25) -> None:
        self.member = member
        self.pause = pause
        self.texts: list[str] = []
        self._outbox = Outbox()
        self._done = asyncio.Event()
        self._prefix = uuid.uuid4().hex[:8]
        self._read = 0  # number of the member's frames that were processed

    async def run(self) -> None:
        """Send a message every `pause` seconds until `stop` is called, and reconnect when the connection is lost."""
        while not self._done.is_set():
            self.texts.append(f"number {len(self.texts) + 1}")
            item = Item(f"{self._prefix}-{len(self.texts)}", "message", self.texts[-1])
            await self._send(self._outbox.add(item, time.monotonic()))
            await self._turn()
            await asyncio.sleep(self.pause)

    async def stop(self) -> None:
        """Stop sending and wait until every message is answered."""
        self._done.set()
        await until(self._all_answered, RECOVERED_WITHIN, "everything that was said is stored")

    async def _all_answered(self) -> bool:
        await self._turn()
        return not self._outbox.unanswered

    async def _turn(self) -> None:
        """Process received frames, reconnect if necessary, and send what may be sent."""
        await self._process_frames()
        if self.member.closed:
            self._outbox.suspend(self.member.closed[0], time.monotonic())
            with contextlib.suppress(OSError, ConnectionClosed, AssertionError, TimeoutError):
                await self.member.enter()
                await self._process_frames()
        if not self.member.closed and not self._outbox.ready:
            await self._send(
                self._outbox.resume(self.member.received_room.limits, self.member.received_room.epoch, time.monotonic())
            )
        await self._send(self._outbox.pump(time.monotonic()))

    async def _process_frames(self) -> None:
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


async def assert_chat_survives(
    first: Member, second: Member, fault: Callable[[], object], within: float = RECOVERED_WITHIN
) -> Speaker:
    """Let the first send messages during a fault; assert that both receive all of them without a gap.

    `fault` blocks until the fault is over. A message sent after that must be received within `within` seconds. Return
    the speaker.
    """
    speaker = Speaker(first)
    running = asyncio.create_task(speaker.run())
    await second.wait_for("number 3")
    await asyncio.to_thread(fault)
    await second.wait_for(f"number {len(speaker.texts) + 1}", within=within)
    await speaker.stop()
    await running
    await second.wait_for(speaker.texts[-1])
    assert list(second.messages) == list(range(1, len(speaker.texts) + 1))
    assert first.messages == second.messages
    return speaker
