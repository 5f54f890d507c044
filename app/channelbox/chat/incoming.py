"""An event that is about to be stored."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from channelbox.chat.event_kinds import parse_kind

Id = tuple[str, str]  # sender, the sender's id


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """One event as it comes from the queue. It gets its number and time when it is stored."""

    sender: str
    user_id: int | None
    name: str
    id: str
    kind: str
    text: str
    data: dict[str, Any] | None = None

    @classmethod
    def of(cls, packed: Mapping[str, Any]) -> Self:
        """Return the event with these fields. Raises TypeError or ValueError if this version cannot store it."""
        event = cls(**{name: value for name, value in packed.items() if name in _FIELDS})
        texts = (event.sender, event.name, event.id, event.kind, event.text)
        if not all(isinstance(text, str) for text in texts) or not isinstance(event.user_id, int | None):
            raise TypeError(f"not what an event is made of: {packed!r:.200}")
        parse_kind(event.kind, event.data)
        return event

    @property
    def key(self) -> Id:
        return self.sender, self.id


_FIELDS = frozenset(field.name for field in fields(IncomingEvent))
