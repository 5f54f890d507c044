"""Handshakes are admitted by address before anything is looked up for them."""

from typing import Any

from channelbox.realtime.admission import Admission, Kind, Source
from channelbox.realtime.client_address import network
from channelbox.realtime.errors import Refused
from channelbox.realtime.origin_check import Refusal


class JoinRefusal(Refusal):
    """Says that too many come at once."""

    def __init__(self, refused: Refused) -> None:
        super().__init__()
        self.refused = refused


class JoinAdmission:
    """ASGI middleware for WebSockets. Persons are counted by their consumer, which knows who they are."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        try:
            Admission.current().admit(Kind.JOINS, Source(address_of(scope)))
        except Refused as refused:
            return await JoinRefusal.as_asgi(refused=refused)(scope, receive, send)
        return await self.application(scope, receive, send)


def address_of(scope: dict[str, Any]) -> str:
    """What counts as the client's address. Behind the installation's proxy it is the one that nginx tells."""
    return network((scope.get("client") or ("", 0))[0])
