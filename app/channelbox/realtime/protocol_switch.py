"""Protocol of a new connection until its first request: a plain upgrade goes straight to WebSocket, all else to HTTP.

uvicorn parses each request with httptools, finds an upgrade, serializes the request again and parses it once more for
the WebSocket. Here the upgrade request that nearly every client sends is parsed once.
"""

import asyncio
from typing import Any

from channelbox.realtime import handshake
from channelbox.realtime.http_protocol import HttpProtocol
from channelbox.realtime.join_steps import JoinSteps
from channelbox.realtime.protocol import FrameProtocol


class ProtocolSwitch(asyncio.Protocol):
    """Class for uvicorn's setting `http`. Holds a connection until its first bytes show which protocol it needs.

    A request for a WebSocket waits for its turn: when all clients reconnect, thousands may arrive at once.
    """

    __slots__ = ("_options", "_request", "_requested_at", "_transport")

    def __init__(self, **options: Any) -> None:
        """`options`: what uvicorn makes its protocols with: config, server_state, app_state and _loop."""
        self._options = options
        self._transport: asyncio.Transport | None = None
        self._request = b""  # waits for its turn
        self._requested_at = 0.0  # when the request arrived, on the event loop's clock

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._request:
            self._request += data
            if self._transport is not None:
                self._transport.pause_reading()
        elif b"upgrade:" in data.lower():
            self._request = data
            loop = asyncio.get_running_loop()
            self._requested_at = loop.time()
            JoinSteps.of(loop).begin(self._switch)
        else:
            self._request = data
            self._switch()

    def _switch(self) -> None:
        """Hand the connection to the protocol that its request asks for, unless it has ended meanwhile."""
        transport, self._transport = self._transport, None
        if transport is None or transport.is_closing():
            return
        self._connections.discard(self)
        transport.resume_reading()
        if (upgrade := handshake.read(self._request)) is not None:
            FrameProtocol.take_over(transport, self._options, upgrade, requested_at=self._requested_at or None)
        else:
            http = HttpProtocol(**self._options)
            transport.set_protocol(http)
            http.connection_made(transport)
            http.data_received(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def shutdown(self) -> None:
        """Stop with the process: uvicorn calls this. A request that has arrived is still answered."""
        if (transport := self._transport) is None:
            return
        if not self._request:
            transport.close()
            return
        self._switch()
        transport.get_protocol().shutdown()  # type: ignore[attr-defined]  # the protocol that it has now

    @property
    def _connections(self) -> set[Any]:
        connections: set[Any] = self._options["server_state"].connections
        return connections
