"""A new connection, before its first request: a plain upgrade goes straight to the frames, all else to HTTP.

uvicorn parses each request with httptools, finds an upgrade, writes the request anew and parses it once more for the
WebSocket. Here the upgrade that nearly every client sends is read once.
"""

import asyncio
from typing import Any

from channelbox.realtime import handshake
from channelbox.realtime.http_protocol import HttpProtocol
from channelbox.realtime.protocol import FrameProtocol


class ProtocolSwitch(asyncio.Protocol):
    """For uvicorn's `http`. Holds a connection until its first bytes say which protocol it gets."""

    __slots__ = ("_made_with", "_transport")

    def __init__(self, **made_with: Any) -> None:
        """`made_with`: what uvicorn makes its protocols with, which is config, server_state, app_state and _loop."""
        self._made_with = made_with
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        transport, self._transport = self._transport, None
        if transport is None or transport.is_closing():
            return
        self._connections.discard(self)
        if (upgrade := handshake.read(data)) is not None:
            FrameProtocol.take_over(transport, self._made_with, upgrade)
        else:
            http = HttpProtocol(**self._made_with)
            transport.set_protocol(http)
            http.connection_made(transport)
            http.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def shutdown(self) -> None:
        """uvicorn: the process stops. Nothing was asked yet, so no answer is owed."""
        if self._transport is not None:
            self._transport.close()

    @property
    def _connections(self) -> set[Any]:
        connections: set[Any] = self._made_with["server_state"].connections
        return connections
