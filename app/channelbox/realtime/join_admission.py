"""Admission of WebSocket handshakes by client address, before anything is looked up for them."""

from typing import Any

from channelbox.realtime.admission import Admission, Kind, Source
from channelbox.realtime.client_address import network
from channelbox.realtime.errors import Refused
from channelbox.realtime.origin_check import Refusal


class JoinRefusal(Refusal):
    """Refuse a handshake because too many arrive at once."""

    def __init__(self, refused: Refused) -> None:
        super().__init__()
        self.refused = refused


class JoinAdmission:
    """ASGI middleware that admits WebSocket handshakes by client address.

    The limits per person are applied by the consumer, which knows the person.
    """

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        try:
            Admission.current().admit(Kind.JOINS, Source(address_of(scope)))
        except Refused as refused:
            return await JoinRefusal.as_asgi(refused=refused)(scope, receive, send)
        return await self.application(scope, receive, send)


def address_of(scope: dict[str, Any]) -> str:
    """Return the network address under which the client's work is counted.

    Behind the installation's proxy it is derived from the client address that nginx passes on.
    """
    return network((scope.get("client") or ("", 0))[0])
