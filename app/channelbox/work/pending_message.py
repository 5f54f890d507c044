"""A message on its way to the workers, and the connections that wait for its outcome."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import IncomingEvent
from channelbox.realtime.errors import Code, Refused
from channelbox.realtime.frames import json_frame
from channelbox.realtime.members import Member

MAX_RECIPIENTS = 20  # connections waiting for the outcome of one message; further ones have to send it again later
RETRY_SECONDS = 1.0


@dataclass(slots=True)
class Recipient:
    """A connection that sent a message. `seen`: the newest event number that had been written to it by then."""

    member: Member
    seen: int


@dataclass(slots=True)
class PendingMessage:
    """A message whose outcome is not known yet. `member`: the connection that sent it first."""

    event: IncomingEvent
    member: Member
    since: float = field(default_factory=time.monotonic)
    recipients: list[Recipient] = field(default_factory=list)
    size: int = 0  # bytes of the text in memory, set by the backlog; as UTF-8 it is at most half as much again

    def add_recipient(self, member: Member, seen: int, here: Collection[Member]) -> None:
        """Add a connection that is told of the outcome, unless it is among them already.

        `seen`: the newest event number written to it. `here`: the connections that are still in the room; when there
        are too many recipients, the others are dropped. Raises Refused when there still are too many.
        """
        if any(member is recipient.member for recipient in self.recipients):
            return
        if len(self.recipients) >= MAX_RECIPIENTS:
            self.recipients = [recipient for recipient in self.recipients if recipient.member in here]
        if len(self.recipients) >= MAX_RECIPIENTS:
            raise Refused(
                Code.TOO_FAST,
                "This message is already being sent over other connections of yours. Try again in 1 s.",
                id=self.event.id,
                retry_after=RETRY_SECONDS,
            )
        self.recipients.append(Recipient(member, seen))

    def tell_refused(self, code: str, sentence: str, retry_after: float | None = None) -> None:
        """Tell all recipients that the message was refused.

        `code`: one of `Code`, or one that only a later version has. `retry_after`: seconds, or None.
        """
        counters.refused += 1
        frame: dict[str, object] = {"error": sentence, "code": code, "id": self.event.id}
        frames = json_frame(frame if retry_after is None else {**frame, "retry_after": retry_after})
        for recipient in self.recipients:
            recipient.member.write_frames(frames)

    def tell_stored(self, seq: int) -> None:
        """Tell the recipients that had been written event `seq` before they sent the message.

        For the others the event itself is the answer.
        """
        frames = json_frame({"type": "stored", "id": self.event.id, "seq": seq})
        for recipient in self.recipients:
            if seq <= recipient.seen:
                recipient.member.write_frames(frames)
