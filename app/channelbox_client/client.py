"""One person in one room: the connection, the room and the outbox as one machine, without a socket or a clock.

Call a method with what happens and the time in seconds; apply the effects that it returns, in order; call `tick` at
`due`. States: idle, connecting, catching_up, joined, waiting, stopped (docs/protocol.md).
"""

import random as default_random
import uuid
from collections.abc import Callable

from channelbox_client.connection import SIGN_IN, SILENCE_SECONDS, Connection
from channelbox_client.effects import Connect, Drop, Effect, Event, Frame, Other, State, Stored
from channelbox_client.outbox import SHARE, Item, Outbox
from channelbox_client.room import Rejoin, Room

OTHER_PERSON = "other_person"  # reason of the state stopped: another person is signed in


class RoomClient:
    """The state machine. `room` holds what was received, `outbox` what waits."""

    def __init__(
        self,
        *,
        share: float = SHARE,
        silence: float = SILENCE_SECONDS,
        fills: bool = False,
        random: Callable[[], float] = default_random.random,
        you: str | None = None,
        guest: bool = False,
    ) -> None:
        """`share`: the part of the server's limits that this client takes. `fills`: see `Room`.

        `you`, `guest`: whose client it is; it stops when somebody else is signed in. Without that it stops only where
        something is unanswered.
        """
        self.room = Room(fills=fills)
        self.outbox = Outbox(share=share, random=random)
        self._you, self._guest = you, guest
        self._connection = Connection(lambda: self.room.query, silence=silence, random=random)

    @property
    def state(self) -> str:
        """Return the name of the state."""
        if not self._connection.live:
            return self._connection.state
        return "joined" if self.room.joined else "catching_up" if self.room.welcomed else "connecting"

    @property
    def due(self) -> float | None:
        """The time of the next call of `tick`; None: none is needed."""
        times = [time for time in (self._connection.due, self.outbox.due) if time is not None]
        return min(times, default=None)

    # --- Actions of a person

    def say(self, text: str, now: float, *, kind: str = "message", id: str | None = None) -> list[Effect]:
        """Send a message or an announcement. `id`: one that was never used; generated unless given."""
        return self.outbox.add(Item(id or str(uuid.uuid4()), kind, text), now)

    def delete(self, seq: int, now: float, *, text: str = "", id: str | None = None) -> list[Effect]:
        """Remove the text of a message. `text`: how it began, for the display."""
        return self.outbox.add(Item(id or str(uuid.uuid4()), "delete", text, seq, self.room.epoch), now)

    # --- Events of the transport

    def connect(self, now: float) -> list[Effect]:
        """Connect at once, without waiting."""
        effects = [*self._disconnected(0, now), *self._connection.connect(now)]
        self.room.opened()
        return effects

    def leave(self, now: float) -> list[Effect]:
        """End the connection until `connect` is called."""
        return [*self._disconnected(1000, now), *self._connection.leave()]

    def frame(self, frame: object, now: float) -> list[Effect]:
        """Handle a received frame, parsed from JSON; anything but an object only shows that the server lives."""
        if not self._connection.live:
            return []
        if not isinstance(frame, dict):
            self._connection.heard(now, ready=self.room.welcomed)
            return []
        content: Frame = frame
        if self._is_other_person(content):
            return [*self._disconnected(0, now), Drop(), *self._connection.closed(SIGN_IN, OTHER_PERSON, now)]
        before = self.state
        effects: list[Effect] = []
        for effect in self.room.frame(content):
            if isinstance(effect, Rejoin):
                return [*effects, *self._disconnected(0, now), *self._connection.give_up(now)]
            effects.append(effect)
            if isinstance(effect, Event) and effect.event.get("user") == self.room.you:
                effects += self._stored(effect.event, now)
        self._connection.heard(now, ready=self.room.welcomed)
        if content.get("type") == "stored":
            effects += self._stored(content, now)
        elif "error" in content:
            effects += self.outbox.refused(content, now) or [Other(content)]
        if self.state != before:
            effects.append(State(self.state))
        if self.room.joined and not self.outbox.ready:
            effects += self.outbox.resume(self.room.limits, self.room.epoch, now)
        return effects

    def closed(self, code: int, reason: str, now: float) -> list[Effect]:
        """Handle the end of the connection; code 0 or 1006: without a close frame."""
        if not self._connection.live:
            return []
        return [*self._disconnected(code, now), *self._connection.closed(code, reason, now)]

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        effects = self._after_connection(self._connection.tick(now), now)
        return effects + self.outbox.pump(now)

    def wake(self, now: float) -> list[Effect]:
        """Connect or check the connection at once: the network or the person is back."""
        return self._after_connection(self._connection.wake(now), now)

    def probe(self, now: float) -> list[Effect]:
        """Check that the connection still works."""
        return self._connection.probe(now)

    # --- Connection, room and outbox together

    def _is_other_person(self, frame: Frame) -> bool:
        """Return whether this welcomes another person than the one whose client it is, or who wrote what is unanswered.

        A guest may be given another name each time.
        """
        room = self.room
        if frame.get("type") != "welcome" or room.welcomed:
            return False
        if self._you is None and not (room.you and self.outbox.unanswered):
            return False
        you, guest = (room.you, room.guest) if self._you is None else (self._you, self._guest)
        return frame.get("you") != you and not (guest and frame.get("guest") is True)

    def _after_connection(self, effects: list[Effect], now: float) -> list[Effect]:
        """Update the room and the outbox after the connection changed by itself."""
        if any(isinstance(effect, Connect) for effect in effects):
            self.room.opened()
        if any(isinstance(effect, Drop) for effect in effects):
            return [*self._disconnected(0, now), *effects]
        return effects

    def _disconnected(self, code: int, now: float) -> list[Effect]:
        self.room.opened()
        return self.outbox.suspend(code, now)

    def _stored(self, frame: Frame, now: float) -> list[Effect]:
        id = frame.get("id")
        if not isinstance(id, str) or id not in self.outbox:
            return []
        return [Stored(id, frame.get("seq") or 0), *self.outbox.stored(id, now)]
