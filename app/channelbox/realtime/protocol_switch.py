"""A connection before its first request: a WebSocket's goes straight to the frames, all others to uvicorn.

uvicorn has each request read by httptools, finds an upgrade, writes the request anew and has it read once more by the
WebSocket's protocol. Here what nearly every client sends to open a WebSocket is read once; whatever is odd still takes
uvicorn's way, which knows the reasons to refuse.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from channelbox.realtime import handshake
from channelbox.realtime.protocol import FrameProtocol


class ProtocolSwitch(asyncio.Protocol):
    """For uvicorn's `http`. Holds the place of a connection until it is known what that is to be."""

    __slots__ = ("_made_with", "_transport")

    def __init__(self, **made_with: Any) -> None:
        """What uvicorn makes its protocols with: config, server_state, app_state, _loop."""
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
            frames = FrameProtocol(**self._made_with)
            transport.set_protocol(frames)
            frames.connection_made(transport)
            frames.begin(upgrade)
        else:
            http = HttpToolsProtocol(**self._made_with)
            transport.set_protocol(http)
            http.connection_made(transport)
            http.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def shutdown(self) -> None:
        """Nothing was asked yet, so nothing is owed."""
        if self._transport is not None:
            self._transport.close()

    @property
    def _connections(self) -> set[Any]:
        connections: set[Any] = self._made_with["server_state"].connections
        return connections
