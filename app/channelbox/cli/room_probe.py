"""Tries to enter a room as a page does, with the client library, and interprets the answer."""

import asyncio
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Origin

from channelbox.cli.finding import ENV, JOURNAL, Finding, note, well, wrong
from channelbox.realtime.errors import Close, Code
from channelbox.version import PROTOCOL
from channelbox_client import RoomClient, State, Welcome
from channelbox_client.aio import NO_CLOSE_FRAME, parsed

ROOM = "lobby"
NO_PROCESS = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


@dataclass(frozen=True)
class Answer:
    """The result of an attempt to enter.

    `welcome`: the frame, if the room was entered. `code`, `reason`: those of the close, if it was not; code 0: neither
    came in time. `status`: the HTTP status, if it was not 101. `failure`: why no connection could be opened.
    """

    welcome: dict[str, Any] | None = None
    code: int = 0
    reason: str = ""
    status: int = 0
    failure: str = ""

    @property
    def from_room(self) -> bool:
        """Return whether a room answered, with a welcome or a refusal, which means that the Origin was accepted."""
        return self.welcome is not None or (self.reason in list(Code) and self.reason != Code.ORIGIN)


async def enter(address: str, origin: str, context: ssl.SSLContext | None, timeout: float) -> Answer:
    """Return the room's first answer to a page of this origin.

    `address`: wss://<host>. `timeout`: seconds for the handshake; how long the room may take is up to the protocol.
    This does not use websockets' client for threads, because two threads at one TLS connection sometimes wait for ever
    (https://github.com/python/cpython/issues/151508).
    """
    client = RoomClient()
    client.room.last = 0  # like a client that returns to an empty room, because a return creates no room
    try:
        async with connect(
            f"{address}/ws/chat/{ROOM}/{client.room.query}",
            origin=Origin(origin),
            ssl=context,
            open_timeout=timeout,
            close_timeout=1,
            proxy=None,
            compression=None,
            max_size=None,
        ) as socket:
            return await _answer(client, socket)
    except InvalidStatus as error:
        return Answer(status=error.response.status_code)
    except (OSError, InvalidHandshake, ValueError, EOFError) as error:
        return Answer(failure=str(error) or f"no answer within {timeout:.0f} s")


async def _answer(client: RoomClient, socket: ClientConnection) -> Answer:
    clock = asyncio.get_running_loop()
    effects = client.connect(clock.time())
    while True:
        for effect in effects:
            match effect:
                case Welcome(frame):
                    return Answer(frame)
                case State("waiting" | "stopped", code, reason):
                    return Answer(code=code, reason=reason)
        try:
            async with asyncio.timeout_at(client.due):
                text = await socket.recv()
        except TimeoutError:
            effects = client.tick(clock.time())
        except ConnectionClosed:
            effects = client.closed(socket.close_code or NO_CLOSE_FRAME, socket.close_reason or "", clock.time())
        else:
            effects = client.frame(parsed(text), clock.time())


def own_pages(answer: Answer, origin: str) -> Finding:
    """Return the finding for pages of the site itself."""
    if answer.status in NO_PROCESS:
        return wrong(
            f"No web process accepts the WebSocket: nginx answers with {answer.status}.",
            "On the web nodes, run: systemctl status 'channelbox-web@*'",
        )
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.code == Close.TOO_MUCH:
        return note(
            "Cannot test joining a room: too many connections from this address.",
            "Try again in a minute. If this persists, check the limits for one address: CHANNELBOX_SOCKETS_ADDRESS and "
            f"CHANNELBOX_JOINS_ADDRESS in {ENV}, and limit_conn and limit_req in nginx.",
        )
    if answer.status or answer.failure:
        return wrong(
            f"Cannot open the WebSocket: {answer.failure or f'HTTP {answer.status} instead of 101'}.",
            "Every proxy in between must forward the upgrade: proxy_http_version 1.1; proxy_set_header Upgrade "
            '$http_upgrade; proxy_set_header Connection "upgrade";',
        )
    if answer.reason == Code.ORIGIN:
        return wrong(
            f"Pages of {origin} cannot open WebSockets: their origin is refused.",
            f"Add {origin} to CHANNELBOX_ORIGINS in {ENV} on every web node, then run: channelbox restart web",
        )
    return _entered(answer.welcome) if answer.welcome is not None else _not_entered(answer)


def _entered(welcome: dict[str, Any]) -> Finding:
    version = welcome.get("protocol")
    if version != PROTOCOL:
        return note(
            f"The web process uses protocol version {version}, but the package on this node uses {PROTOCOL}.",
            "Install the same version of the package on every node; channelbox status lists the versions.",
        )
    return well("WebSockets work.")


def _not_entered(answer: Answer) -> Finding:
    if answer.code == Close.RESTART:
        return note("The web process that answered is restarting.", "Try again in a minute.")
    if answer.code == Close.ROOM_FULL:
        return note(
            f"WebSockets work, but the room {ROOM} is full.",
            f"Its limit is set in /admin/; the limit of rooms without one is CHANNELBOX_ROOM_LIMIT in {ENV}.",
        )
    if answer.reason in (Code.SIGN_IN, Code.NO_ROOM):  # everything before the room works
        return well("WebSockets work.")
    if answer.reason == Code.NOT_ALLOWED:
        return well(f"WebSockets work. (The room {ROOM} is closed, or for its members only.)")
    if answer.code == Close.TRY_LATER:
        return wrong(
            "WebSockets work, but nobody can join a room: Redis or the database does not respond to a web process.",
            JOURNAL,
        )
    if not answer.code:
        return wrong(
            "WebSockets work, but nobody can join a room: there is no answer. Redis or the database may hang.",
            JOURNAL,
        )
    reason = f" ({answer.reason})" if answer.reason else ""
    return wrong(
        f"WebSockets work, but nobody can join a room: the connection is closed with {answer.code}{reason}.", JOURNAL
    )


def foreign_pages(answer: Answer) -> Finding:
    """Return the finding for pages of other sites."""
    if answer.reason == Code.ORIGIN or answer.status == HTTPStatus.FORBIDDEN:
        return well("WebSockets from pages of other sites are refused.")
    if answer.from_room:
        return wrong(
            "Pages of any other site can open WebSockets with the permissions of their visitors.",
            f"CHANNELBOX_ORIGINS in {ENV} must name your own addresses only.",
        )
    seen = answer.failure or (f"HTTP {answer.status}" if answer.status else f"close code {answer.code}")
    return note(
        f"Cannot test whether WebSockets from pages of other sites are refused ({seen}).",
        "Try again. If this persists, run: journalctl -u 'channelbox-web@*' -n 50",
    )
