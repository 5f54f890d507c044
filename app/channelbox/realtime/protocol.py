"""One WebSocket connection: what uvicorn's protocols are to an ASGI application, and finished frames for the hub.

The hub writes the same bytes to every member's transport: no task, no queue and no encoding for each of them.

What a client sends is handled in bounded slices (`turns`), at the pace of two token buckets, which count every byte and
every frame, also the frames that no application sees. What is more stays in the kernel: TCP tells its sender to wait.
"""

import asyncio
import logging
import random
import struct
import urllib.parse
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from django.conf import settings
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected, get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from channelbox.realtime import handshake
from channelbox.realtime.codes import Close
from channelbox.realtime.counters import counters
from channelbox.realtime.frame_reader import BINARY, CLOSE, PING, PONG, TEXT, FrameReader
from channelbox.realtime.frames import close_frame, frame
from channelbox.realtime.rate import Bucket
from channelbox.realtime.receive_queue import ReceiveQueue
from channelbox.realtime.turns import wait_for_turn

logger = logging.getLogger(__name__)

EXTENSION = "channelbox.frames"
FRAMES_PER_MESSAGE = 5  # times CHANNELBOX_RATE and CHANNELBOX_RATE_BURST: frames of any kind, control frames too
SLICE_FRAMES = 32  # of one client in one turn of the event loop: about 0.1 ms
SLICE_BYTES = 16 * 1024
MAX_QUEUED = 16  # events that the application has not taken, before no more is read
CLOSE_SECONDS = 10.0  # for the client's Close after ours
GOODBYE_SECONDS = 2.0  # the same, after a violation and at a restart; and for its FIN after both
MAX_SKIPPED_FRAMES = 1000  # after our Close, before a client's Close is not looked for any more


class FrameProtocol(asyncio.Protocol):
    """One connection, and what the hub calls a member.

    An idle connection should cost little: nothing of the handshake is kept, and what only some need is made for them.
    """

    __slots__ = (
        "_accepted",
        "_app_state",
        "_bytes_bucket",
        "_close_sent",
        "_config",
        "_frames_bucket",
        "_full",
        "_key",
        "_lost",
        "_paused",
        "_ping",
        "_queue",
        "_reader",
        "_response",
        "_server_state",
        "_skipped",
        "_timer",
        "_waiting",
        "loop",
        "on_lost",
        "stay",
        "transport",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.loop = _loop or asyncio.get_running_loop()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.on_lost: Callable[[], None] | None = None
        # What is left to do when the application returns: a consumer's stay, outside of the middleware that let it in
        self.stay: Coroutine[Any, Any, None] | None = None
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._queue = ReceiveQueue()
        self._key = b""  # of a handshake that is not answered yet
        self._response: tuple[int, list[tuple[bytes, bytes]], bytes] | None = None  # instead of the WebSocket
        self._accepted = False
        self._close_sent = False
        self._lost = False
        self._timer: asyncio.TimerHandle | None = None  # of the next ping, its pong, or the end after a Close
        self._ping = b""  # payload of the ping that is not answered yet
        self._reader: FrameReader | None = None
        self._frames_bucket: Bucket = None  # type: ignore[assignment]  # both are made with the reader
        self._bytes_bucket: Bucket = None  # type: ignore[assignment]
        self._paused = False  # reading from the transport
        self._waiting = False  # for a turn, or for tokens
        self._full = False  # the application has enough to take for now
        self._skipped = 0  # frames after our Close

    # --- The handshake

    @classmethod
    def take_over(
        cls, transport: asyncio.Transport, made_with: dict[str, Any], upgrade: handshake.Upgrade, more: bytes = b""
    ) -> None:
        """Make this transport a WebSocket. `more`: what the client sent behind its request."""
        connection = cls(**made_with)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.begin(upgrade)
        if more:
            connection.data_received(more)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        # The transport counts what a slow reader has not taken; the limit fires `pause_writing`.
        self.transport.set_write_buffer_limits(high=settings.CHANNELBOX_SLOW_READER_BYTES)

    def begin(self, upgrade: handshake.Upgrade) -> None:
        """Ask the application for an answer to a valid upgrade request."""
        self._key = upgrade.key
        path, _, query = upgrade.target.partition(b"?")
        root = self._config.root_path
        scope = {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(self.transport) else "ws",
            "server": get_local_addr(self.transport),
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
        self._queue.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self._run(scope))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    async def _run(self, scope: Any) -> None:
        """Run the application, and end the connection with it."""
        code = Close.NORMAL
        try:
            await self._config.loaded_app(scope, self.receive, self.send)
            del scope
            if self.stay is not None:
                stay, self.stay = self.stay, None
                await stay
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:  # uvicorn's patience with a stop is over
            self.transport.abort()
            raise
        except Exception:
            logger.exception("Exception in ASGI application")
            code = Close.FAILED
        if self._key:
            self._refuse(500, "Internal Server Error")
        else:
            self._close(code)

    async def receive(self) -> dict[str, Any]:
        """ASGI: return the next event."""
        if self._full and not self._queue:
            self._full = False
            self._wait_for_turn()
        return await self._queue.get()

    async def send(self, message: Any) -> None:
        """ASGI: never waits. A client that is too slow is cut off.

        Raises ClientDisconnected when the connection is gone or closed.
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
        """Answer the handshake as the application says."""
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
        """Let the client in."""
        if self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(handshake.answer(self._key, headers))
        self._accepted = True
        self._key = b""
        self._schedule_ping()
        if self._reader is not None:  # the client sent something before it was let in
            self._wait_for_turn()

    def _refuse(self, status: int, body: str | bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer the handshake with another status, and end the connection."""
        self._key = b""
        self._close_sent = True
        if not self.transport.is_closing():
            headers = [*self._server_state.default_headers, *headers]
            self.transport.write(handshake.refusal(status, body, headers))
            self._finish()

    # --- What the client sends

    def _make_reader(self) -> FrameReader:
        rate, burst, rate_bytes = (
            settings.CHANNELBOX_RATE,
            settings.CHANNELBOX_RATE_BURST,
            settings.CHANNELBOX_RATE_BYTES,
        )
        max_bytes = self._config.ws_max_size
        self._frames_bucket = Bucket(FRAMES_PER_MESSAGE * rate, FRAMES_PER_MESSAGE * burst)
        self._bytes_bucket = Bucket(rate_bytes, max(2 * max_bytes, rate_bytes * burst / rate))
        self._reader = FrameReader(max_bytes)
        return self._reader

    def data_received(self, data: bytes) -> None:
        if self._close_sent:
            self._look_for_close(data)
            return
        reader = self._reader or self._make_reader()
        reader.feed(data)
        if not self._accepted:  # no client of ours says anything before it is let in
            self._pause()
        elif not self._waiting and not self._full:
            self.take_turn()

    def take_turn(self) -> None:
        """Handle one slice of what the client sent."""
        self._waiting = False
        reader = self._reader
        if reader is None or self._close_sent or self.transport.is_closing():
            return
        if reader.hungry:
            self._read_on()
            return
        if len(self._queue) > MAX_QUEUED:
            self._full = True
            self._pause()
            return
        if wait := max(self._frames_bucket.wait(), self._bytes_bucket.wait()):
            self._waiting = True
            self._pause()
            self.loop.call_later(wait, self._wait_for_turn, True)
            return
        events, frames, size = reader.read(SLICE_FRAMES, SLICE_BYTES)
        self._frames_bucket.spend(frames)
        self._bytes_bucket.spend(size)
        if events:
            self._handle(events)
        if self._close_sent:
            return
        if reader.violation is not None:
            self._queue.put_nowait({"type": "websocket.disconnect", "code": reader.violation.code})
            self._close(reader.violation.code, reader.violation.reason, GOODBYE_SECONDS)
        elif reader.hungry:
            self._read_on()
        else:
            self._pause()
            self._wait_for_turn()

    def _handle(self, events: list[tuple[int, str | bytes]]) -> None:
        """Pass on what was read, and answer it."""
        answers = []
        for opcode, payload in events:
            if opcode == TEXT:
                self._queue.put_nowait({"type": "websocket.receive", "text": payload})
            elif opcode == BINARY:
                self._queue.put_nowait({"type": "websocket.receive", "bytes": payload})
            elif opcode == PING:
                answers.append(frame(PONG, payload))  # type: ignore[arg-type]
            elif opcode == PONG:
                if self._ping and payload == self._ping:
                    self._ping = b""
                    self._schedule_ping()
            elif opcode == CLOSE:
                self._closed_by_client(answers, payload)  # type: ignore[arg-type]
        if answers:
            self.write_frames(b"".join(answers))

    def _closed_by_client(self, answers: list[bytes], payload: bytes) -> None:
        """Answer the client's Close with the same code (RFC 6455, 5.5.1), and end the connection."""
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        self._queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": payload[2:].decode()})
        answers.append(frame(CLOSE, payload))
        self.write_frames(b"".join(answers))
        answers.clear()
        self._close_sent = True
        self._finish()

    def _wait_for_turn(self, tokens: bool = False) -> None:
        """Ask for a turn of this connection's own. `tokens`: it waited for tokens until now."""
        if tokens or not self._waiting:
            self._waiting = True
            wait_for_turn(self.loop, self)

    def _pause(self) -> None:
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def eof_received(self) -> None:
        """The transport closes itself then."""

    # --- The hub's

    def write_frames(self, frames: bytes) -> None:
        """Write whole frames. Never waits and never raises: one member that is gone must not end a fan-out.

        uvloop raises on a transport that was lost, in the moment before `connection_lost`; and a raw write after a
        Close frame would go out.
        """
        if self._close_sent or self._lost or self.transport.is_closing():
            return
        try:
            self.transport.write(frames)
        except RuntimeError:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Cut off a client that does not read. A Close frame would only queue behind all the rest."""
        if not self._lost:
            counters.slow_closed += 1
            self.transport.abort()

    # --- Pings

    def _schedule_ping(self) -> None:
        self._stop_timer()
        if self._config.ws_ping_interval:
            self._timer = self.loop.call_later(self._config.ws_ping_interval, self._send_ping)

    def _send_ping(self) -> None:
        self._ping = struct.pack(
            "!I", random.getrandbits(32)
        )  # an older pong, or one that nobody asked for, is another
        self.write_frames(frame(PING, self._ping))
        if self._config.ws_ping_timeout:
            self._timer = self.loop.call_later(self._config.ws_ping_timeout, self._no_pong)

    def _no_pong(self) -> None:
        """End the connection, at once: who does not read would keep its place until the backlog is gone, so never."""
        if self._paused:  # the pong may be in what we have not read
            self._timer = self.loop.call_later(self._config.ws_ping_timeout or 0, self._no_pong)
            return
        self.write_frames(close_frame(Close.FAILED, "keepalive ping timeout"))
        self._close_sent = True
        self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- The end

    def _close(self, code: int, reason: str = "", seconds: float = CLOSE_SECONDS) -> None:
        """Send a Close frame, and read on until the client's comes, for so many seconds at most.

        Closing the socket with something unread would reset the connection, and a reset may overtake our Close: the
        client would not see the code. So what it still sends is read, and thrown away.
        """
        if self._close_sent or self._lost or self.transport.is_closing():
            return
        self._queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.write_frames(close_frame(code, reason))
        self._close_sent = True
        self._end_within(seconds)
        self._read_on()
        if self._reader is not None:
            if self._reader.close_read:
                self._finish()
            else:
                self._look_for_close(b"")

    def _look_for_close(self, data: bytes) -> None:
        """Pass over what the client sends after our Close. Of a flood not even its Close is looked for."""
        if self._skipped >= MAX_SKIPPED_FRAMES:
            return
        reader = self._reader or self._make_reader()
        if data:
            reader.feed(data)
        found, frames = reader.skip(MAX_SKIPPED_FRAMES - self._skipped)
        self._skipped += frames
        if found:
            self._finish()
        elif self._skipped >= MAX_SKIPPED_FRAMES:
            self._end_within(GOODBYE_SECONDS)

    def _finish(self) -> None:
        """Say that nothing more comes, and read on until the client says so too, for the reason that `_close` gives."""
        self._skipped = MAX_SKIPPED_FRAMES
        self._reader = None
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._end_within(GOODBYE_SECONDS)
            self._read_on()
        else:
            self.transport.close()

    def _end_within(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        """Close the socket; should the client not even read what was written, abort it later."""
        self._stop_timer()
        if self.transport.get_write_buffer_size():
            self._timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._stop_timer()
        self._reader = None
        self._server_state.connections.discard(self)
        self._queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        if self.on_lost is not None:
            # Out of the hub now, not when the consumer's task gets its turn.
            self.on_lost()
            self.on_lost = None

    def shutdown(self) -> None:
        """uvicorn: the process stops. 1012, spread over the drain, so that the clients do not all return at once."""
        self.loop.call_later(random.random() * settings.CHANNELBOX_DRAIN_SECONDS, self._restart)  # noqa: S311

    def _restart(self) -> None:
        if self._lost or self.transport.is_closing():
            return
        if self._key:
            self._refuse(503, "The server restarts.", [(b"Retry-After", b"1")])
        elif self._close_sent:
            self._end()
        else:
            self._close(Close.RESTART, seconds=GOODBYE_SECONDS)
