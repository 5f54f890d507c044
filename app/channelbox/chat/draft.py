"""An event on its way into the record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from channelbox.chat.kinds import understood

Id = tuple[str, str]  # sender, the sender's id


@dataclass(frozen=True, slots=True)
class Draft:
    """What the queue brings of one event: its number and time come with storing it."""

    sender: str
    user_id: int | None
    name: str
    id: str
    kind: str
    text: str
    data: dict[str, Any] | None = None

    @classmethod
    def of(cls, fields: Sequence[Any]) -> Self:
        """From an entry of the queue. Raises TypeError or ValueError for what another version must have put there."""
        draft = cls(*fields)
        texts = (draft.sender, draft.name, draft.id, draft.kind, draft.text)
        if not all(isinstance(text, str) for text in texts) or not isinstance(draft.user_id, int | None):
            raise TypeError(f"not what an event is made of: {fields!r:.200}")
        understood(draft.kind, draft.data)
        return draft

    @property
    def key(self) -> Id:
        return self.sender, self.id
