"""uvicorn's HTTP protocol with limits: requests that are too large, malformed or never complete get a status, too."""

import asyncio
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from channelbox.realtime import handshake
from channelbox.realtime.handshake import Refusal
from channelbox.realtime.protocol import FrameProtocol
from channelbox.realtime.wire import MAX_SKIPPED_BYTES

REQUEST_SECONDS = 10.0  # until a request's headers are complete, and between two pieces of its body
WRITE_SECONDS = 30.0  # for a client to read what is buffered for it, at most 64 KiB of a response
MAX_PIPELINED = 100  # requests that wait on one connection for the response to an earlier one
LINGER_SECONDS = 2.0  # for which input is still read from a client that was refused

# The attributes of uvicorn's objects that this package uses
CONFIG_NAMES = "loaded_app root_path asgi_version ws_max_size ws_ping_interval ws_ping_timeout"
STATE_NAMES = "connections tasks default_headers"
HTTP_NAMES = (
    "connection_made connection_lost data_received pause_writing resume_writing"
    " on_message_begin on_url on_header on_headers_complete"
    " on_message_complete _should_upgrade _unset_keepalive_if_required _start_asgi_task pipeline"
    " config server_state connections loop transport flow parser url headers cycle"
)
PARSER_NAMES = "feed_data get_method get_http_version should_upgrade"
CYCLE_NAMES = "response_started response_complete keep_alive more_body disconnected message_event"


class HttpProtocol(HttpToolsProtocol):
    """Handles the HTTP requests of one connection, and hands it to `FrameProtocol` when a WebSocket is requested."""

    def __init__(self, **made_with: Any) -> None:
        """`made_with`: uvicorn's arguments for its protocols, which are config, server_state, app_state and _loop."""
        super().__init__(**made_with)
        self._made_with = made_with
        # The request in progress. `cycle` is the last one received, which may wait in the pipeline.
        self._responding: RequestResponseCycle | None = None
        self._upgrade: handshake.Upgrade | None = None
        self._receiving = False  # a request has begun to arrive and is not complete
        self._in_head = False  # its headers are not complete
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None  # for the client to read what is buffered for it
        self._discarding = False  # further input is read and discarded
        self._skipped_bytes = 0

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            self._skipped_bytes += len(data)
            if self._skipped_bytes > MAX_SKIPPED_BYTES:
                self.flow.pause_reading()
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._cancel_deadline()
            if self._upgrade is not None:
                self._stop_write_timer()
                self.connections.discard(self)
                FrameProtocol.take_over(self.transport, self._made_with, self._upgrade, data[upgrade.args[0] :])
            else:
                # The request is answered without an upgrade (RFC 9110, 7.8). httptools skipped its body, if it has one,
                # so what follows must not be taken for another request.
                self._discarding = True
                self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, Refusal) else Refusal(400, "This is not a valid HTTP request."))
        else:
            self._watch_progress(len(data))

    def on_message_begin(self) -> None:
        self._receiving = self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        handshake.check_size(b"", self.url, ())

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > handshake.MAX_HEADERS:
            handshake.check_size(b"", b"", self.headers)

    def on_headers_complete(self) -> None:
        self._in_head = False
        method = self.parser.get_method()
        if self.parser.should_upgrade() and self._should_upgrade():
            if self.cycle is not None and not self.cycle.response_complete:
                raise Refusal(400, "A WebSocket was requested before the last request was answered.")
            headers = [(name, value.strip(b" \t")) for name, value in self.headers]
            self._upgrade = handshake.check(method, self.url, headers, self.parser.get_http_version())
        else:
            handshake.check_size(method, self.url, self.headers)
            if len(self.pipeline) >= MAX_PIPELINED:
                raise Refusal(429, f"More than {MAX_PIPELINED} requests are waiting on this connection.")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._receiving = False
        super().on_message_complete()

    def _watch_progress(self, size: int) -> None:
        """Enforce the deadlines of a request in progress: one for all its headers, one for each piece of its body."""
        if not self._receiving:
            self._cancel_deadline()
            return
        if self._in_head:
            self._head_bytes += size
            if self._head_bytes > handshake.MAX_HEAD_BYTES:
                self._refuse(Refusal(431, f"The headers are larger than {handshake.MAX_HEAD_BYTES} bytes."))
                return
        else:
            self._cancel_deadline()
        if self._deadline is None:
            late = Refusal(408, f"The request was not complete after {REQUEST_SECONDS:g} s.")
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self._refuse, late)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with an error and close the connection.

        Input is read for LINGER_SECONDS more, as closing with unread input would reset the connection. If an earlier
        request is not answered yet, it gets its response instead of the error, and the connection is closed after that.
        """
        self._cancel_deadline()
        self._discarding = True
        # The refused request waits in the pipeline: the connection is closed after the response before it.
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()
            before = self.pipeline[0][0] if self.pipeline else self._responding
            if before is not None:
                before.keep_alive = False
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            if self.cycle.response_started or not self.cycle.more_body:
                return
            self.cycle.disconnected = True  # the body of this request was not received
            self.cycle.message_event.set()
        if self.transport.is_closing():
            return
        headers = [*self.server_state.default_headers, *refusal.headers]
        self.transport.write(handshake.refusal(refusal.status, refusal.reason, headers))
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._deadline = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def pause_writing(self) -> None:
        """Close the connection if the client does not read its response, as the request holds a database connection."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._responding = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Mark the request in progress as disconnected, too: uvicorn marks the last one, which may wait behind it.

        On uvloop, writing to a lost connection raises. Django would then not finish its request and would keep the
        request's database connection.
        """
        self._cancel_deadline()
        self._stop_write_timer()
        super().connection_lost(exc)
        if self._responding is not None:
            self._responding.disconnected = True
            self._responding.message_event.set()


async def _no_application(scope: Any, receive: Any, send: Any) -> None:
    """Stand in for the application that Config requires."""


def check_uvicorn() -> None:
    """Raise RuntimeError if uvicorn lacks attributes that `HttpProtocol` and `FrameProtocol` use.

    Only some of them are documented, so the minor version is pinned (pyproject.toml). Needs a running event loop.
    """
    config = Config(_no_application, interface="asgi3", ws="none", log_config=None)
    config.load()
    state = ServerState()
    http = HttpToolsProtocol(config=config, server_state=state, app_state={})
    http._start_asgi_task = lambda cycle, app: None  # type: ignore[method-assign]
    http.parser.feed_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    used = (
        (config, CONFIG_NAMES),
        (state, STATE_NAMES),
        (http, HTTP_NAMES),
        (http.parser, PARSER_NAMES),
        (http.cycle, CYCLE_NAMES),
    )
    lacking = [
        f"{type(owner).__name__}.{name}" for owner, names in used for name in names.split() if not hasattr(owner, name)
    ]
    if lacking:
        raise RuntimeError(f"uvicorn lacks {', '.join(lacking)}: install the version that channelbox pins.")
