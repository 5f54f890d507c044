"""The WebSocket consumer of the chat."""

import contextlib
import re
import uuid
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from redis.exceptions import RedisError

from channelbox.accounts.revocation import RevocationMonitor, SocketGrant
from channelbox.chat import permissions
from channelbox.chat.event_kinds import FOR_STAFF, Kind
from channelbox.chat.runtime import ChatRuntime
from channelbox.realtime import redis_keys
from channelbox.realtime.admission import Kind as Work
from channelbox.realtime.consumer import RealtimeConsumer
from channelbox.realtime.envelope import Envelope, IncomingEvent, RoomRef
from channelbox.realtime.errors import INVALID_FORMAT, Code, Refused
from channelbox.realtime.frames import json_frame
from channelbox.realtime.history_source import Identity
from channelbox.realtime.hub import Hello
from channelbox.version import PROTOCOL, package_version
from channelbox.work.pending_message import PendingMessage

MAX_ID = 64
# Unicode's categories Cc, except line feed, carriage return and tab, and Cs (half of a surrogate pair)
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class ChatConsumer(RealtimeConsumer):
    """One connection of a client to one room."""

    person: permissions.Person
    room_name: str

    async def enter(self) -> None:
        self.runtime = ChatRuntime.current()
        self._has_slot = self._joined = False
        self._monitor = RevocationMonitor.current()
        self._after, epoch = _resume_point(self.scope["query_string"])
        self.person = permissions.person_of(self.scope["user"], self.scope.get("session"))
        self.count(self.person.key, guest=self.person.guest)
        # A client that reconnects does not create a room again that was deleted meanwhile.
        name = self.scope["url_route"]["kwargs"]["room_name"]
        room = await permissions.enter(self.person, name, creator=self.source if self._after is None else None)
        self.room_name, self._title, self._epoch = room.name, str(room), room.full_epoch
        self._room = RoomRef(room.pk, room.name, self._epoch)
        if epoch and epoch != self._epoch:
            self._after = None  # the number belongs to an event that is not in this record
        grant = SocketGrant.of(self.scope, self.refuse, (room.pk, room.name, self._epoch))
        limit = room.limit or settings.CHANNELBOX_ROOM_LIMIT
        for_users = limit * (100 - settings.CHANNELBOX_ROOM_GUESTS) // 100
        await self.runtime.room_slots.take(room.name, limit, for_users if self.person.guest else 0)
        self._has_slot = True
        if not self._gone:
            history = settings.CHANNELBOX_HISTORY
            await self.runtime.hub.join(
                room.name,
                Identity(room.pk, self._epoch),
                self.member,
                self._after,
                history,
                self._greeting,
                self._presence_frame,
                self.source,
            )
        if self._gone:  # the client left meanwhile, perhaps before the hub had it
            self.runtime.hub.leave(room.name, self.member)
            self.left()
            return
        self._grant = grant
        self._monitor.admit(grant)
        self._joined = True
        self.runtime.presence.joined(room.name, self.person.name)

    def left(self) -> None:
        if getattr(self, "_has_slot", False):
            self._has_slot = False
            self.runtime.hub.leave(self.room_name, self.member)
            self.runtime.room_slots.give(self.room_name)
        if getattr(self, "_joined", False):
            self._joined = False
            self._monitor.leave(self._grant)
            del self._grant  # which refers to this consumer
            self.runtime.presence.left(self.room_name, self.person.name)

    def _greeting(self, hello: Hello) -> bytes:
        return json_frame(
            {
                "type": "welcome",
                "protocol": PROTOCOL,
                "version": package_version(),
                "room": self.room_name,
                "title": self._title,
                "epoch": self._epoch,
                "floor": hello.floor,
                "seq": hello.newest,
                "you": self.person.name,
                "guest": self.person.guest,
                "may": ["announce", "remove"] if self.person.staff else [],
                "resumed": hello.resumed,
                "limits": {
                    "message": settings.CHANNELBOX_MESSAGE_MAX,
                    "rate": settings.CHANNELBOX_RATE,
                    "burst": settings.CHANNELBOX_RATE_BURST,
                },
            }
        )

    def _presence_frame(self) -> bytes:
        return self.runtime.presence.frame(self.room_name)

    async def receive_json(self, content: dict[str, Any], **kwargs: Any) -> None:
        match content.get("type", "message"):
            case Kind.MESSAGE | Kind.ANNOUNCEMENT as kind:
                self._send_text(kind, content)
            case "delete":
                self._delete(content)
            case "typing":
                await self._typing()
            case "ping":
                self.member.write_frames(json_frame({"type": "pong"}))
            case _:
                raise Refused(Code.INVALID, INVALID_FORMAT, id=_echo(content))

    def _send_text(self, kind: str, content: dict[str, Any]) -> None:
        id = self._checked_id(content)
        text = _text(content, id)
        if kind in FOR_STAFF and not self.person.staff:
            raise Refused(Code.NOT_ALLOWED, "Only administrators may do this.", id=id)
        self._enqueue(kind, id, text)

    def _delete(self, content: dict[str, Any]) -> None:
        id = self._checked_id(content)
        seq = content.get("seq")
        if not isinstance(seq, int) or isinstance(seq, bool) or not 0 < seq < 2**63:
            raise Refused(Code.INVALID, INVALID_FORMAT, id=id)
        self._enqueue(Kind.DELETION, id, "", {"removes": seq})

    def _checked_id(self, content: dict[str, Any]) -> str:
        """Return the id of an event to be stored. Raises Refused for a bad id, or before the client has joined."""
        if not self._joined:
            raise Refused(Code.TRY_LATER, "You have not joined the room yet.", id=_echo(content), retry_after=1)
        return _id(content)

    def _enqueue(self, kind: str, id: str, text: str, data: dict[str, object] | None = None) -> None:
        person = self.person
        event = IncomingEvent(person.key, person.user_id, person.name, id, str(kind), text, data)
        self.runtime.outbox.put(self._room, PendingMessage(event, self.member), self._admit)

    def _admit(self, message: PendingMessage) -> None:
        self._admission.admit(Work.MESSAGES, self.source, message.event.id)

    async def _typing(self) -> None:
        if self._joined and not self._admission.take(Work.TYPING, self.source, self.room_name)[0]:
            frame = json_frame({"type": "typing", "user": self.person.name})
            with contextlib.suppress(RedisError, OSError):  # losing this is no reason to end a connection
                await self.runtime.bus.publish(
                    redis_keys.room(self.room_name), Envelope(frames=frame, key=self._room.key).pack()
                )


def _resume_point(query: bytes) -> tuple[int | None, str]:
    """Return `?after=<seq>&epoch=<epoch>`: the newest event number that the client has, and the epoch of that number.

    The number is None for a newcomer. The epoch is "" when it is missing; then the number is taken to be of the room's
    present epoch.
    """
    if not query:
        return None, ""
    words = parse_qs(query.decode("latin1"))
    after, epoch = words.get("after", [""])[0], words.get("epoch", [""])[0]
    return (int(after) if after.isascii() and after.isdigit() and len(after) < 19 else None), epoch


def _echo(content: dict[str, Any]) -> str | None:
    """Return the id if it is valid, so that an error can name it."""
    id = content.get("id")
    return id if isinstance(id, str) and 0 < len(id) <= MAX_ID and id.isprintable() else None


def _id(content: dict[str, Any]) -> str:
    if content.get("id") is None:
        return uuid.uuid4().hex
    if (id := _echo(content)) is None:
        raise Refused(Code.BAD_ID, f"id must be 1 to {MAX_ID} printable characters.")
    return id


def _text(content: dict[str, Any], id: str) -> str:
    text = content.get("message")
    if not isinstance(text, str):
        raise Refused(Code.INVALID, INVALID_FORMAT, id=id)
    if len(text) > settings.CHANNELBOX_MESSAGE_MAX:
        most = settings.CHANNELBOX_MESSAGE_MAX
        raise Refused(Code.TOO_LONG, f"This message is too long: {len(text)} characters. The limit is {most}.", id=id)
    if CONTROL_CHARACTERS.search(text):
        raise Refused(Code.INVALID, "Messages cannot contain control characters.", id=id)
    if not text.strip():
        raise Refused(Code.EMPTY, "This message is empty.", id=id)
    return text
