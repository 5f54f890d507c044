"""The base class of all WebSocket consumers: a Channels consumer without Channels' cost for each connection."""

import asyncio
import contextlib
import json
import logging
from typing import Any

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from uvicorn.protocols.utils import ClientDisconnected

from channelbox.realtime.admission import Admission, Kind, Source
from channelbox.realtime.connection_limits import ConnectionLimits, Limit
from channelbox.realtime.counters import counters
from channelbox.realtime.errors import INVALID_FORMAT, Close, Code, Refused
from channelbox.realtime.frames import json_frame
from channelbox.realtime.join_admission import address_of
from channelbox.realtime.join_deadline import deadline_of
from channelbox.realtime.members import Member, SendingMember, member_of
from channelbox.realtime.protocol import EXTENSION

logger = logging.getLogger(__name__)

# By how many a client's refused frames may exceed its accepted ones
MAX_REFUSALS = 300  # before the connection is closed with 4008, as the client ignores the errors
FREE_REFUSALS = 20  # before its frames are handled more slowly
# Pauses before the next frame of a client is handled; what it sends meanwhile is not even read
REFUSED_PAUSE_SECONDS = 0.01
FULL_PAUSE_SECONDS = 0.2  # after `queue_full`: under overload, refusing takes time that storing needs


class RealtimeConsumer(AsyncJsonWebsocketConsumer):
    """Accepts the connection first, reports errors as frames, and always cleans up.

    The hub writes a room's messages directly to the connection. So this consumer has no channel in a channel layer, no
    second task, and no switch to a thread for each message (Channels' `dispatch` makes one to close old database
    connections; database work here goes through `database_sync_to_async`, which does so itself).

    A subclass implements `enter()`, `receive_json()` and `left()`. The first two may raise `Refused`.
    """

    member: Member
    source: Source
    _counted: list[str]

    def count(self, person: str | None, *, guest: bool) -> None:
        """Count this connection for its person and its address until it ends.

        `person`: the key of the person, None if unknown. `guest`: count it among the guests of its address, too. Raises
        Refused if the person or the address has too many connections, or the person opens them too fast.
        """
        self.source.person = person
        address = self.source.address
        limits = [Limit(f"address {address}", settings.CHANNELBOX_SOCKETS_ADDRESS, " from your address")]
        if guest:  # a guest can be another person on each connection
            most = settings.CHANNELBOX_SOCKETS_GUESTS
            limits.append(Limit(f"guests {address}", most, " by guests from your address"))
            # Guests have separate buckets, so that they do not use up the limits of users at the same address.
            self.source.address = f"guests {address}"
        if person is not None:
            self._admission.admit(Kind.JOINS, Source(None, person))  # its address was counted at the handshake
            limits.append(Limit(f"person {person}", settings.CHANNELBOX_SOCKETS_PERSON, " of yours"))
        self._counted = ConnectionLimits.current().enter(limits)

    async def enter(self) -> None:
        """Check whether the client may connect, and join it. Called after the connection was accepted.

        May raise Refused. It is cancelled at the deadline of the handshake (join_deadline.py).
        """

    def left(self) -> None:
        """Clean up. Called once, as soon as it is known that the connection has ended or is ending; must not block."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one connection, as an ASGI application.

        If the server supports it, `_serve` is handed to the protocol, which runs it after this call has returned: then
        the ten coroutines of the middleware end here.
        """
        self.scope = scope
        self.base_send = send
        self.channel_layer = None
        self.source = Source(address_of(scope))
        self._admission = Admission.current()
        self._gone = False
        self._refusals = 0  # refused frames in excess of accepted ones
        self._pause = 0.0
        self._counted = []
        continuation = self._serve(receive)
        if EXTENSION in scope.get("extensions", {}):
            scope["extensions"][EXTENSION].charge = self._charge
            scope["extensions"][EXTENSION].continuation = continuation
        else:
            await continuation

    async def _serve(self, receive: Any) -> None:
        try:
            with contextlib.suppress(StopConsumer):
                while True:
                    await self.dispatch(await receive())
        except ClientDisconnected:  # the client disconnected while something was sent
            pass
        finally:
            self._leave()

    async def dispatch(self, message: dict[str, Any]) -> None:
        handler = {
            "websocket.connect": self.websocket_connect,
            "websocket.receive": self.websocket_receive,
            "websocket.disconnect": self.websocket_disconnect,
        }[message["type"]]
        await handler(message)

    async def websocket_connect(self, message: dict[str, Any]) -> None:
        await self.accept()
        self.member = member_of(self.scope, self.base_send)
        self.member.on_lost = self._leave
        counters.connections += 1
        counters.accepted += 1
        await self._report_errors(self._enter_in_time())
        self.scope = {}  # frees the headers, the session and the user, which are not needed any more

    async def _enter_in_time(self) -> None:
        try:
            async with asyncio.timeout_at(deadline_of(self.scope)):
                await self.enter()
        except TimeoutError as error:
            logger.warning("Refused a client: a service that it needs for joining did not respond in time")
            raise Refused(
                Code.TRY_LATER, "Connecting took too long. Try again.", retry_after=2, close=Close.TRY_LATER
            ) from error

    async def websocket_receive(self, message: dict[str, Any]) -> None:
        if self._gone:  # queued before our Close was sent
            return
        text = message.get("text")
        if isinstance(self.member, SendingMember) and (
            wait := self._charge(1, len(message["bytes"] if text is None else text))
        ):
            await asyncio.sleep(wait)
            if self._gone:
                return
        counters.received += 1
        if text is None:
            refused = Refused(Code.INVALID, "Only text frames are accepted.", close=Close.UNSUPPORTED)
            await self.refuse(refused)
            return
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        await self._report_errors(self._receive(content))
        if self._pause and not self._gone:
            await asyncio.sleep(self._pause)
            self._pause = 0

    async def _receive(self, content: Any) -> None:
        if not isinstance(content, dict):
            raise Refused(Code.INVALID, INVALID_FORMAT)
        await self.receive_json(content)
        self._refusals = max(0, self._refusals - 1)

    async def _report_errors(self, step: Any) -> None:
        try:
            await step
        except Refused as refused:
            await self.refuse(refused)
        except ClientDisconnected:
            raise
        # TimeoutError and ClientDisconnected are both OSErrors, but after a timeout the client must get an error.
        except Exception:
            logger.exception("Cannot handle a frame")
            await self.refuse(Refused(Code.TRY_LATER, "Something went wrong. Try again.", close=Close.TRY_LATER))

    async def refuse(self, refused: Refused) -> None:
        """Send an error to the client.

        Closes the connection if the error has a close code, or if the client has ignored too many errors before.
        """
        counters.refused += 1
        self._refusals += 1
        if refused.code is Code.QUEUE_FULL:
            self._pause = FULL_PAUSE_SECONDS
        elif self._refusals > FREE_REFUSALS:
            self._pause = REFUSED_PAUSE_SECONDS
        self.member.write_frames(json_frame(refused.frame))
        if refused.close is not None:
            await self.end(refused.close, str(refused.code))
        elif self._refusals >= MAX_REFUSALS:
            await self.end(Close.TOO_MUCH, str(Code.TOO_FAST))

    async def end(self, code: Close, reason: str) -> None:
        """Close the connection from the server's side. `reason` is an error code for the Close frame."""
        self._leave()
        if isinstance(self.member, SendingMember):
            await self.member.drained()
        await self.close(code, reason)

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        raise StopConsumer

    def _charge(self, frames: int, size: int) -> float:
        return self._admission.charge(self.source, frames, size)

    def _leave(self) -> None:
        if not self._gone and hasattr(self, "member"):
            self._gone = True
            counters.connections -= 1
            ConnectionLimits.current().leave(self._counted)
            self.left()
