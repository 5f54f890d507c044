"""uvicorn's WebSocket protocol with a door for finished frames.

The hub writes the same bytes to every member's transport: no task, no queue and no encoding for each of them. Private
names of uvicorn's are used, so its minor version is pinned and `check_protocol` looks at start whether they are there.

What a client sends is parsed a slice at a time, and only as fast as the application takes it: one that floods has its
frames left in the kernel, where they cost nobody anything. uvicorn stops and starts the reading for each single frame,
which are two system calls; here it stops when some frames wait.
"""

import asyncio
import dis
import logging
import random
import urllib.parse
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from django.conf import settings
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.protocol import State
from websockets.server import ServerProtocol

from channelbox.realtime import handshake
from channelbox.realtime.codes import Close
from channelbox.realtime.counters import counters
from channelbox.realtime.receive_queue import ReceiveQueue

EXTENSION = "channelbox.frames"
GOODBYE_SECONDS = 2.0  # for the client's Close after ours
SLICE = 16 * 1024  # bytes that are parsed in one go: a few ms of small frames
WAITING_MOST = 16  # frames that the application has not taken, before no more is read


class _Writable:
    """What uvicorn waits for before it sends. Here nobody waits: who is too slow is cut off."""

    def set(self) -> None: ...

    def clear(self) -> None: ...

    async def wait(self) -> None: ...


_WRITABLE = _Writable()  # one for all: an Event has a deque, 0.7 KB for each connection


class FrameProtocol(WebSocketsSansIOProtocol):
    """One connection. It is what the hub calls a member.

    An idle one should cost little: what only the handshake needed is let go when it is over.
    """

    # What uvicorn gives to each connection at first. Of the class, it costs a connection nothing.
    logger = logging.getLogger("uvicorn.error")
    handshake_initiated = handshake_complete = close_sent = disconnected = False
    close_timer: asyncio.TimerHandle | None = None
    ping_timer: asyncio.TimerHandle | None = None
    pong_timer: asyncio.TimerHandle | None = None
    pending_ping_payload: bytes | None = None
    initial_response = None
    close_timeout = 10.0
    ping_sent_at = last_ping_rtt = 0.0
    curr_msg_data_type = "text"
    writable = _WRITABLE  # type: ignore[assignment]
    read_paused = True  # so uvicorn leaves the reading alone: it is done here
    server = client = None
    scheme: Any = None
    transport: asyncio.Transport = None  # type: ignore[assignment]

    on_lost: Callable[[], None] | None = None
    queue: ReceiveQueue  # type: ignore[assignment]
    # What is left to do when the application returns: a consumer's stay, outside of the middleware that let it in
    stay: Coroutine[Any, Any, None] | None = None
    fresh = True  # nothing was read yet
    key = b""  # of a handshake that is ours and not answered yet
    unread = b""  # read, but not parsed yet
    stopped = False  # reading from the transport
    deaf = False  # to all that may still come
    _conn: ServerProtocol | None = None

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        """As uvicorn's own, without what an idle connection has no use for; `check_protocol` compares the two."""
        self.config = config
        self.app = config.loaded_app
        self.loop = _loop or asyncio.get_running_loop()
        self.root_path = config.root_path
        self.asgi_version = config.asgi_version
        self.app_state = app_state
        self.connections = server_state.connections
        self.tasks = server_state.tasks
        self.default_headers = server_state.default_headers
        self.ping_interval = config.ws_ping_interval
        self.ping_timeout = config.ws_ping_timeout
        self.queue = ReceiveQueue()
        self.frames: list[bytes] = []

    @property
    def conn(self) -> ServerProtocol:  # type: ignore[override]
        """websockets' part, made when it is first needed: who comes and listens has none before the first ping."""
        if self._conn is None:
            self._conn = ServerProtocol(max_size=self.config.ws_max_size, logger=self.logger)
            if self.handshake_complete:  # it was done here: what comes now is frames, and not a request
                self._conn.state = State.OPEN
                self._conn.parser = self._conn.parse()
                next(self._conn.parser)
        return self._conn

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # The transport counts what a slow reader has not taken; the limit fires `pause_writing`.
        transport.set_write_buffer_limits(high=settings.CHANNELBOX_SLOW_READER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self.fresh:
            self.fresh = False
            if (upgrade := handshake.read(data)) is not None:
                self.begin(upgrade)
                return
        if self.key:  # no client of ours says anything before it is let in
            self.unread += data
        elif self.close_sent and (self.deaf or len(data) > SLICE):
            self._turn_deaf()
        elif self.unread or len(data) > SLICE:
            self.unread += data
            self._parse_some()
        else:
            super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            self._give_up()
        elif not self.stopped and (self.unread or len(self.queue) > WAITING_MOST) and not self.close_sent:
            self.stopped = True
            self.transport.pause_reading()

    def begin(self, upgrade: handshake.Upgrade) -> None:
        """Asks the application, as uvicorn does it."""
        self.fresh = False
        self.key = upgrade.key
        self.handshake_initiated = True
        path, _, query = upgrade.target.partition(b"?")
        self.scope = {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": self.scheme,
            "server": self.server,
            "client": self.client,
            "root_path": self.root_path,
            "path": self.root_path + urllib.parse.unquote(path.decode("ascii")),
            "raw_path": self.root_path.encode("ascii") + path,
            "query_string": query,
            "headers": upgrade.headers,
            "subprotocols": [],
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}},
        }
        self.queue.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self.run_asgi())
        task.add_done_callback(self.on_task_complete)
        self.tasks.add(task)

    def _give_up(self) -> None:
        """No request came that websockets understands. uvicorn would wait for one and keep websockets' answer."""
        self.unread = b""
        if not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def _accept(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Lets the client in. From here on websockets has the frames."""
        if self.disconnected:
            raise ClientDisconnected
        if not self.transport.is_closing():
            self.handshake_complete = True
            self.transport.write(handshake.answer(self.key, [*self.default_headers, *headers]))
            self.start_keepalive()
        self.key = b""

    def _parse_some(self) -> None:
        """Parses what was read, until the application has something to take."""
        while self.unread and not self.key and not self.queue and not self.transport.is_closing():
            piece, self.unread = self.unread[:SLICE], self.unread[SLICE:]
            super().data_received(piece)

    async def receive(self) -> Any:
        if self.stopped and not self.queue and not self.key:
            self._parse_some()
            if not self.unread and not self.queue:
                self._read_on()
        return await self.queue.get()

    def _read_on(self) -> None:
        self.stopped = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    async def send(self, message: Any) -> None:
        if self.key and message["type"] == "websocket.accept":
            self._accept(message.get("headers", ()))
            self.scope = {}  # type: ignore[typeddict-item]
            return
        await super().send(message)
        if self.close_sent:
            self._await_close()
        elif message["type"] == "websocket.accept":
            self.request.headers.clear()  # websockets' parser keeps the request
            del self.request, self.response
            self.scope = {}  # type: ignore[typeddict-item]

    def _await_close(self) -> None:
        """After our Close frame the client's is all that matters, and it is behind what was not read."""
        if self.unread:
            self._turn_deaf()
        if self.stopped:
            self._read_on()

    def _turn_deaf(self) -> None:
        """Closed, and it sent a flood: to look for its Close would cost what the flood would have.

        What it sends is still read, for else it would be told by a reset, and might not see our Close.
        """
        self.unread = b""
        if not self.deaf:
            self.deaf = True
            if self.close_timer is not None:
                self.close_timer.cancel()
            self.close_timer = self.loop.call_later(GOODBYE_SECONDS, self.transport.close)

    async def run_asgi(self) -> None:
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[EXTENSION] = self
        self.app = self._application
        await super().run_asgi()

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        self.app = self.config.loaded_app  # no circle: who has left is freed at once
        await self.app(scope, receive, send)
        del scope, receive, send
        if self.stay is not None:
            stay, self.stay = self.stay, None
            await stay

    def write_frames(self, frames: bytes) -> None:
        """Writes whole frames. Never waits and never raises: one member that is gone must not end a fan-out.

        uvloop raises on a transport that was lost, in the moment before `connection_lost`; and a raw write after a
        Close frame would go out.
        """
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        try:
            self.transport.write(frames)
        except RuntimeError:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Too slow for too long: cut off. A Close frame would only queue behind what it does not read."""
        super().pause_writing()
        if not self.disconnected:
            counters.slow_closed += 1
            self.transport.abort()

    def keepalive_timeout(self) -> None:
        """No pong. Who does not read would keep the connection, and its place, until the backlog is gone: never."""
        super().keepalive_timeout()
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.on_lost is not None:
            # Out of the hub now, not when the consumer's task gets its turn.
            self.on_lost()
            self.on_lost = None

    def shutdown(self) -> None:
        """SIGTERM: 1012, spread over the drain, so that the clients do not all come back in one moment."""
        self.loop.call_later(random.random() * settings.CHANNELBOX_DRAIN_SECONDS, self._restart)  # noqa: S311

    def _restart(self) -> None:
        """Closes with 1012 and waits a moment for the client's own Close.

        uvicorn's own shutdown closes at once: what the client has sent meanwhile then resets the connection, and the
        code is lost with it.
        """
        if self.disconnected or self.transport.is_closing():
            return
        if self.close_sent or not self.handshake_complete:
            super().shutdown()
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": Close.RESTART})
        self.conn.send_close(Close.RESTART)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._await_close()
        self.close_timer = self.loop.call_later(GOODBYE_SECONDS, self.transport.close)


def _assigned(method: Callable[..., None]) -> set[str]:
    """The attributes that a method sets."""
    return {step.argval for step in dis.get_instructions(method) if step.opname == "STORE_ATTR"}


def check_protocol() -> None:
    """Raises RuntimeError when uvicorn or websockets no longer has the names that `FrameProtocol` relies on."""
    missing = [
        name
        for name in (
            "run_asgi",
            "receive",
            "send",
            "data_received",
            "pause_writing",
            "connection_made",
            "connection_lost",
            "shutdown",
            "start_keepalive",
            "stop_keepalive",
            "on_task_complete",
        )
        if not callable(getattr(WebSocketsSansIOProtocol, name, None))
    ]
    # What uvicorn gives to each connection, and this class must give too
    theirs, ours = (_assigned(each.__init__) for each in (WebSocketsSansIOProtocol, FrameProtocol))
    missing += sorted((theirs - ours - vars(FrameProtocol).keys()) | (ours - theirs))
    conn = ServerProtocol()
    missing += [name for name in ("parser", "parse", "handshake_exc") if not hasattr(conn, name)]
    if missing:
        lacking = ", ".join(missing)
        raise RuntimeError(f"uvicorn and websockets differ in {lacking}: install the versions that channelbox pins.")
