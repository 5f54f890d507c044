"""One message on its way to the workers, and the connections that are told of its outcome."""

import time
from dataclasses import dataclass, field

from channelbox.realtime.counters import counters
from channelbox.realtime.frames import json_frame
from channelbox.realtime.members import Member

MAX_RECIPIENTS = 3  # connections of one message: the first that sent it, and the newest of those that sent it again

Id = tuple[str, str]  # sender, the sender's id


@dataclass(slots=True)
class Recipient:
    """A connection that sent a message. `seen`: the newest number that had been written to it by then."""

    member: Member
    seen: int


@dataclass(slots=True)
class Message:
    """One message on its way."""

    sender: str
    user: int | None
    name: str
    id: str
    kind: str
    text: str
    member: Member
    data: dict[str, object] | None = None  # what its kind carries besides
    since: float = field(default_factory=time.monotonic)
    recipients: list[Recipient] = field(default_factory=list)

    @property
    def key(self) -> Id:
        return self.sender, self.id

    def add_recipient(self, member: Member, seen: int) -> None:
        """Have this connection too told of the outcome."""
        if all(member is not recipient.member for recipient in self.recipients):
            if len(self.recipients) == MAX_RECIPIENTS:
                del self.recipients[1]
            self.recipients.append(Recipient(member, seen))

    def tell_refused(self, code: str, sentence: str, retry_after: float | None = None) -> None:
        """`code`: one of `Code`, or a later version's."""
        counters.refused += 1
        frame: dict[str, object] = {"error": sentence, "code": code, "id": self.id}
        frames = json_frame(frame if retry_after is None else {**frame, "retry_after": retry_after})
        for recipient in self.recipients:
            recipient.member.write_frames(frames)

    def tell_stored(self, seq: int) -> None:
        """Tell the connections that had been written event `seq` before; for the others the event is the answer."""
        frames = json_frame({"type": "stored", "id": self.id, "seq": seq})
        for recipient in self.recipients:
            if seq <= recipient.seen:
                recipient.member.write_frames(frames)

    def fields(self) -> dict[str, object]:
        """Return what the worker gets of it (`chat.incoming.IncomingEvent`)."""
        fields: dict[str, object] = {
            "sender": self.sender,
            "user_id": self.user,
            "name": self.name,
            "id": self.id,
            "kind": self.kind,
            "text": self.text,
        }
        return fields if self.data is None else {**fields, "data": self.data}
