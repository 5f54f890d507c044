"""One WebSocket connection: a protocol of uvicorn to the ASGI application, and a member to the hub.

The hub writes the same bytes to every member's transport (`write_frames`), without a task, a queue or an encoding for
each member.
"""

import asyncio
import logging
import random
import urllib.parse
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from django.conf import settings
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from channelbox.realtime import handshake
from channelbox.realtime.errors import Close
from channelbox.realtime.frame_reader import BINARY, TEXT
from channelbox.realtime.frames import frame
from channelbox.realtime.join_deadline import start_deadline
from channelbox.realtime.wire import Wire

logger = logging.getLogger(__name__)

EXTENSION = "channelbox.frames"


class FrameProtocol(Wire):
    """One connection, which should cost little while it is idle.

    So nothing of the handshake is kept, and everything else is created when it is needed.
    """

    __slots__ = ("_app_state", "_key", "_response", "_server_state", "continuation", "on_lost")

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, _loop)
        self.on_lost: Callable[[], None] | None = None
        # Runs when the application has returned: a consumer's life, outside the middleware that let its client in
        self.continuation: Coroutine[Any, Any, None] | None = None
        self._server_state = server_state
        self._app_state = app_state
        self._key = b""  # Sec-WebSocket-Key of a handshake that is not answered yet
        self._response: tuple[int, list[tuple[bytes, bytes]], bytes] | None = None  # HTTP answer in place of the accept

    # --- The handshake

    @classmethod
    def take_over(
        cls,
        transport: asyncio.Transport,
        options: dict[str, Any],
        upgrade: handshake.Upgrade,
        more: bytes = b"",
        requested_at: float | None = None,
    ) -> None:
        """Make this transport a WebSocket connection.

        `options`: the arguments that uvicorn makes its protocols with. `more`: what the client sent after its
        request. `requested_at`: when the request arrived, on the event loop's clock, if not now.
        """
        connection = cls(**options)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.begin(upgrade, requested_at)
        if more:
            connection.data_received(more)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server_state.connections.add(self)  # type: ignore[arg-type]

    def begin(self, upgrade: handshake.Upgrade, requested_at: float | None = None) -> None:
        """Call the application for a valid upgrade request. `requested_at`: as in `take_over`."""
        self._key = upgrade.key
        path, _, query = upgrade.target.partition(b"?")
        root = self._config.root_path
        scope = {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(self.transport) else "ws",
            "client": get_remote_addr(self.transport),
            "root_path": root,
            "path": root + urllib.parse.unquote(path.decode("ascii")),
            "raw_path": root.encode("ascii") + path,
            "query_string": query,
            "headers": upgrade.headers,
            "subprotocols": upgrade.subprotocols,
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, EXTENSION: self},
        }
        if requested_at is not None:
            start_deadline(scope, requested_at)
        self._queue.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self._run(scope))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    async def _run(self, scope: Any) -> None:
        """Run the application, and end the connection when it returns."""
        code = Close.NORMAL
        try:
            await self._config.loaded_app(scope, self.receive, self.send)
            del scope
            if self.continuation is not None:
                continuation, self.continuation = self.continuation, None
                await continuation
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:  # uvicorn's timeout for a graceful stop is over
            self.transport.abort()
            raise
        except Exception:
            logger.exception("Exception in ASGI application")
            code = Close.FAILED
        if self._key:
            self._refuse(500, "Internal Server Error")
        else:
            self._close(code)
        if self._lost:
            self._drop_charge()  # the application may have set it after the connection was lost

    async def receive(self) -> dict[str, Any]:
        """ASGI: return the next event."""
        return await self._next_event()

    async def send(self, message: Any) -> None:
        """ASGI: send a message, without waiting. A client that reads too slowly is cut off.

        Raises ClientDisconnected when the connection is lost or closed.
        """
        kind = message["type"]
        if self._lost:
            raise ClientDisconnected
        if self._key:
            self._answer(kind, message)
        elif self._close_sent or self.transport.is_closing():
            raise ClientDisconnected
        elif kind == "websocket.send":
            data = message.get("bytes")
            if data is None:
                self.write_frames(frame(TEXT, message["text"].encode()))
            else:
                self.write_frames(frame(BINARY, data))
        elif kind == "websocket.close":
            self._close(message.get("code", Close.NORMAL), message.get("reason") or "")
        else:
            raise RuntimeError(f"{kind} was sent on an open WebSocket.")

    def _answer(self, kind: str, message: Any) -> None:
        """Answer the handshake as the application decides."""
        if kind == "websocket.accept":
            headers = [*self._server_state.default_headers, *message.get("headers", ())]
            if message.get("subprotocol"):
                headers.append((b"Sec-WebSocket-Protocol", message["subprotocol"].encode()))
            self._accept(headers)
        elif kind == "websocket.close":
            self._queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
            self._refuse(403, "")
        elif kind == "websocket.http.response.start":
            self._response = (message["status"], list(message.get("headers", ())), b"")
        elif kind == "websocket.http.response.body" and self._response is not None:
            status, headers, body = self._response
            body += message.get("body", b"")
            self._response = (status, headers, body)
            if not message.get("more_body", False):
                self._queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
                self._refuse(status, body, headers)
        else:
            raise RuntimeError(f"{kind} was sent before the WebSocket was accepted.")

    def _accept(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Accept the WebSocket."""
        if self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(handshake.answer(self._key, headers))
        self._accepted = True
        self._key = b""
        self._schedule_ping()
        if self._reader is not None:  # the client sent something before the accept
            self._wait_for_turn()

    def _refuse(self, status: int, body: str | bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer the handshake with another status, and end the connection."""
        self._key = b""
        self._close_sent = True
        if not self.transport.is_closing():
            headers = [*self._server_state.default_headers, *headers]
            self.transport.write(handshake.refusal(status, body, headers))
            self._half_close()

    # --- The end

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._server_state.connections.discard(self)
        if self.on_lost is not None:
            # Leave the hub now, not when the consumer's task gets its turn.
            self.on_lost()
            self.on_lost = None

    def shutdown(self) -> None:
        """Close with 1012 when uvicorn stops the process.

        Spread over CHANNELBOX_DRAIN_SECONDS, so that the clients do not all return at once.
        """
        self.loop.call_later(random.random() * settings.CHANNELBOX_DRAIN_SECONDS, self.restart)  # noqa: S311

    def restart(self) -> None:
        """Close with 1012, unless closed already. The client reconnects."""
        if self._lost or self.transport.is_closing():
            return
        if self._key:
            self._refuse(503, "The server is restarting.", [(b"Retry-After", b"1")])
        elif self._close_sent:
            self._close_transport()
        else:
            self._close(Close.RESTART, soon=True)
