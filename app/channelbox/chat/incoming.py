"""An event on its way into the record."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from channelbox.chat.event_kinds import understood

Id = tuple[str, str]  # sender, the sender's id


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """One event as the queue brings it. Storing gives it its number and time."""

    sender: str
    user_id: int | None
    name: str
    id: str
    kind: str
    text: str
    data: dict[str, Any] | None = None

    @classmethod
    def of(cls, packed: Mapping[str, Any]) -> Self:
        """Return the event of these fields. Raises TypeError or ValueError for one that this version cannot store."""
        event = cls(**{name: value for name, value in packed.items() if name in _FIELDS})
        texts = (event.sender, event.name, event.id, event.kind, event.text)
        if not all(isinstance(text, str) for text in texts) or not isinstance(event.user_id, int | None):
            raise TypeError(f"not what an event is made of: {packed!r:.200}")
        understood(event.kind, event.data)
        return event

    @property
    def key(self) -> Id:
        return self.sender, self.id


_FIELDS = frozenset(field.name for field in fields(IncomingEvent))
