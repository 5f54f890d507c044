"""Check of the Origin header, with its scheme, against CHANNELBOX_ORIGINS.

A WebSocket handshake carries cookies and no CSRF token, so this check is the defence against other sites.
"""

import json
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from channelbox.realtime.errors import Close, Code, Refused


class Refusal(AsyncWebsocketConsumer):
    """Consumer that accepts, sends the reason and closes.

    A close before the accept would be an HTTP 403, and the client would never see the close code.
    """

    channel_layer_alias = "none"
    refused: Refused

    async def connect(self) -> None:
        await self.accept()
        await self.send(text_data=json.dumps(self.refused.frame))
        await self.close(self.refused.close, str(self.refused.code))


class OriginRefusal(Refusal):
    refused = Refused(
        Code.ORIGIN,
        "WebSockets from pages of that origin are not allowed. "
        "An administrator adds it to CHANNELBOX_ORIGINS, with its scheme and port.",
        close=Close.NOT_ALLOWED,
    )


class UnknownAddress(Refusal):
    """Refuse a WebSocket at a path that has no consumer."""

    refused = Refused(Code.NO_ROOM, "There is no WebSocket endpoint at this address.", close=Close.NOT_ALLOWED)


def origin_allowed(scope: dict[str, Any]) -> bool:
    """Return whether the Origin header allows this connection.

    A browser always sends one. A program that sends none carries no cookie that it was not given; it is refused if
    CHANNELBOX_ORIGIN_REQUIRED is on.
    """
    origins = [value.decode("latin1") for name, value in scope.get("headers", []) if name == b"origin"]
    if not origins:
        return not settings.CHANNELBOX_ORIGIN_REQUIRED
    return len(origins) == 1 and origins[0].lower() in {origin.lower() for origin in settings.CHANNELBOX_ORIGINS}


class OriginCheck:
    """Outermost ASGI middleware: nothing is looked up for a connection that the Origin header rules out."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        if origin_allowed(scope):
            return await self.application(scope, receive, send)
        return await OriginRefusal.as_asgi()(scope, receive, send)
