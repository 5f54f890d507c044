"""uvicorn's HTTP, which answers every request with a status, also those that are too large, odd or never complete."""

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
TAKE_SECONDS = 30.0  # for a client to take the most that waits for it, 64 KiB of an answer
MAX_WAITING = 100  # requests that were sent before the answer to an earlier one, on one connection
LINGER_SECONDS = 2.0  # in which what a refused client still sends is read

# What this package uses of uvicorn's objects
OF_CONFIG = "loaded_app root_path asgi_version ws_max_size ws_ping_interval ws_ping_timeout"
OF_STATE = "connections tasks default_headers"
OF_HTTP = (
    "connection_made connection_lost data_received pause_writing resume_writing"
    " on_message_begin on_url on_header on_headers_complete"
    " on_message_complete _should_upgrade _unset_keepalive_if_required _start_asgi_task pipeline"
    " config server_state connections loop transport flow parser url headers cycle"
)
OF_PARSER = "feed_data get_method get_http_version should_upgrade"
OF_CYCLE = "response_started response_complete keep_alive more_body disconnected message_event"


class HttpProtocol(HttpToolsProtocol):
    """The requests of one connection. Hands it over to `FrameProtocol` when one asks for a WebSocket."""

    def __init__(self, **made_with: Any) -> None:
        """`made_with`: what uvicorn makes its protocols with, which is config, server_state, app_state and _loop."""
        super().__init__(**made_with)
        self._made_with = made_with
        self._answering: RequestResponseCycle | None = None  # `cycle` is the last request that came, which may wait
        self._asked: handshake.Upgrade | None = None
        self._under_way = False  # a request has begun and is not complete
        self._in_head = False  # its headers are not complete
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None  # for the client to take what waits for it
        self._deaf = False  # what still comes is read and thrown away
        self._skipped_bytes = 0

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._skipped_bytes += len(data)
            if self._skipped_bytes > MAX_SKIPPED_BYTES:
                self.flow.pause_reading()
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._cancel_deadline()
            if self._asked is not None:
                self._stop_taking()
                self.connections.discard(self)
                FrameProtocol.take_over(self.transport, self._made_with, self._asked, data[upgrade.args[0] :])
            else:
                # Answered without the upgrade (RFC 9110, 7.8). httptools passed over the body, if there was one: what
                # follows must not be taken for a request.
                self._deaf = True
                self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, Refusal) else Refusal(400, "This is not a valid HTTP request."))
        else:
            self._watch(len(data))

    def on_message_begin(self) -> None:
        self._under_way = self._in_head = True
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
                raise Refusal(400, "A WebSocket was asked for before the last request was answered.")
            headers = [(name, value.strip(b" \t")) for name, value in self.headers]
            self._asked = handshake.check(method, self.url, headers, self.parser.get_http_version())
        else:
            handshake.check_size(method, self.url, self.headers)
            if len(self.pipeline) >= MAX_WAITING:
                raise Refusal(429, f"More than {MAX_WAITING} requests wait on this connection.")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._under_way = False
        super().on_message_complete()

    def _watch(self, size: int) -> None:
        """See to it that a request that has begun ends: its headers in time as a whole, its body piece by piece."""
        if not self._under_way:
            self._cancel_deadline()
            return
        if self._in_head:
            self._head_bytes += size
            if self._head_bytes > handshake.MAX_HEAD_BYTES:
                self._refuse(Refusal(431, f"More than {handshake.MAX_HEAD_BYTES} bytes of headers."))
                return
        else:
            self._cancel_deadline()
        if self._deadline is None:
            late = Refusal(408, f"The request was not complete after {REQUEST_SECONDS:g} s.")
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self._refuse, late)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with an error, and read on for a moment: closing with something unread would reset the connection.

        A request before it that is not answered yet is answered instead, and the connection closed behind it.
        """
        self._cancel_deadline()
        self._deaf = True
        if self.pipeline and self.cycle.more_body:  # it waits for the answers before it: the last of them ends all
            self.pipeline.popleft()
            before = self.pipeline[0][0] if self.pipeline else self._answering
            if before is not None:
                before.keep_alive = False
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            if self.cycle.response_started or not self.cycle.more_body:
                return
            self.cycle.disconnected = True  # this request's body is what never came
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
        """Cut a client off that does not take its answer: its request keeps a database connection meanwhile."""
        super().pause_writing()
        self._taking = self.loop.call_later(TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_taking()

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered too: uvicorn tells the last, which may wait behind it.

        What is written to a lost connection raises on uvloop. Django would then not end its request, and keep the
        database connection that it has for it.
        """
        self._cancel_deadline()
        self._stop_taking()
        super().connection_lost(exc)
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()


async def _no_application(scope: Any, receive: Any, send: Any) -> None:
    """Config asks for one."""


def check_uvicorn() -> None:
    """Raise RuntimeError when uvicorn no longer has the names that `HttpProtocol` and `FrameProtocol` rely on.

    Only some of them are documented: the minor version is pinned (pyproject.toml). Needs a running event loop.
    """
    config = Config(_no_application, interface="asgi3", ws="none", log_config=None)
    config.load()
    state = ServerState()
    http = HttpToolsProtocol(config=config, server_state=state, app_state={})
    http._start_asgi_task = lambda cycle, app: None  # type: ignore[method-assign]
    http.parser.feed_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    used = ((config, OF_CONFIG), (state, OF_STATE), (http, OF_HTTP), (http.parser, OF_PARSER), (http.cycle, OF_CYCLE))
    lacking = [
        f"{type(owner).__name__}.{name}" for owner, names in used for name in names.split() if not hasattr(owner, name)
    ]
    if lacking:
        raise RuntimeError(f"uvicorn lacks {', '.join(lacking)}: install the version that channelbox pins.")
