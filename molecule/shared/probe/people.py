"""Simulated users who sign in over HTTP and chat over WebSockets, from a chosen node to a chosen server."""

import asyncio
import contextlib
import http.client
import http.cookies
import json
import socket
import ssl
import urllib.parse
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from channelbox_client import Room

Frame = dict[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """A way to connect: a function that opens the connection, the host name, and the certificate to trust."""

    open: Callable[[], socket.socket]
    host: str
    certificate: str | None = None
    """PEM text; None means no TLS, as the balancer connects to a web node."""

    @property
    def tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cadata=self.certificate) if self.certificate else None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that a balancer adds when it connects to a web node without TLS."""
        return {} if self.certificate else {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}


class Browser:
    """An HTTP client with cookies that connects to one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.cookies: dict[str, str] = {}

    @property
    def origin(self) -> str:
        return f"https://{self.endpoint.host}"

    @property
    def cookie_header(self) -> dict[str, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": cookies} if cookies else {}

    def request(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        """Send a request over a new connection; return status and body. Redirects are not followed."""
        connection = http.client.HTTPConnection(self.endpoint.host)
        raw = self.endpoint.open()
        connection.sock = (
            self.endpoint.tls.wrap_socket(raw, server_hostname=self.endpoint.host) if self.endpoint.tls else raw
        )
        headers = {
            **self.endpoint.headers,
            **self.cookie_header,
            "Origin": self.origin,
            "Referer": f"{self.origin}{path}",
        }
        body = None
        if form is not None:
            body = urllib.parse.urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            for header in answer.headers.get_all("Set-Cookie", []):
                for name, morsel in http.cookies.SimpleCookie(header).items():
                    self.cookies[name] = morsel.value
            return answer.status, text

    def sign_in(self, name: str, password: str) -> None:
        """Sign in as a person does: open the page and send the form; fail if the server refuses."""
        status, _ = self.request("GET", "/accounts/login/")
        assert status == 200, f"the sign-in page answers {status}"
        token = self.cookies["channelbox_csrf"]
        form = {"username": name, "password": password, "csrfmiddlewaretoken": token}
        status, page = self.request("POST", "/accounts/login/", form)
        assert status == 302, f"sign-in of {name} was answered with {status}: {page[:2000]}"


@dataclass
class WebSocketClient:
    """A WebSocket to a path of the server, with all frames that it received, in order."""

    browser: Browser
    path: str
    endpoint: Endpoint
    origin: str | None = None
    frames: list[Frame] = field(default_factory=list)
    closed: tuple[int, str] | None = None
    """Code and reason of a closed connection; 1006 if the server sent none."""
    _socket: ClientConnection | None = None
    _reader: asyncio.Task[None] | None = None
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __aenter__(self) -> Self:
        return await self.enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def enter(self, *, welcome: bool = True) -> Self:
        """Connect or reconnect, and wait for the welcome."""
        scheme = "wss" if self.endpoint.tls else "ws"
        raw = await asyncio.to_thread(self.endpoint.open)
        raw.setblocking(False)
        tls: dict[str, Any] = (
            {"ssl": self.endpoint.tls, "server_hostname": self.endpoint.host} if self.endpoint.tls else {}
        )
        headers = {**self.endpoint.headers, **self.browser.cookie_header}
        start = len(self.frames)
        self.closed = None
        self._socket = await connect(
            f"{scheme}://{self.endpoint.host}{self.path}",
            sock=raw,
            origin=self.origin or self.browser.origin,  # type: ignore[arg-type]
            additional_headers=headers,
            compression=None,
            open_timeout=10,
            ping_interval=None,
            **tls,
        )
        self._reader = asyncio.create_task(self._read(self._socket))
        if welcome:
            await self.wait_for_frame(lambda frame: frame.get("type") == "welcome", start=start)
        return self

    async def leave(self) -> None:
        """Close the connection and stop reading."""
        if self._socket is not None and self._reader is not None:
            await self._socket.close()
            await self._reader

    async def send_text(self, text: str) -> None:
        """Send a text frame unchanged."""
        assert self._socket is not None
        await self._socket.send(text)

    async def wait_for_frame(self, wanted: Callable[[Frame], object], within: float = 10, start: int = 0) -> Frame:
        """Wait for the first frame that is wanted, beginning at index `start`, and return it."""

        def found() -> Frame | None:
            return next((frame for frame in self.frames[start:] if wanted(frame)), None)

        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: found() is not None or self.closed is not None)
        except TimeoutError:
            pass
        frame = found()
        last = self.frames[-5:]
        assert frame is not None, f"not received within {within} s; closed: {self.closed}; the last frames: {last}"
        return frame

    async def wait_closed(self, within: float = 10) -> tuple[int, str]:
        """Wait until the connection is closed and return its code and reason."""
        assert self._reader is not None
        await asyncio.wait_for(asyncio.shield(self._reader), within)
        assert self.closed is not None
        return self.closed

    @property
    def errors(self) -> list[Frame]:
        return [frame for frame in self.frames if "error" in frame]

    def on_frame(self, frame: Frame) -> None:
        """Process a frame that has just arrived; a hook for subclasses."""

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for text in connection:
                frame = json.loads(text)
                self.on_frame(frame)
                async with self._news:
                    self.frames.append(frame)
                    self._news.notify_all()
        except ConnectionClosed:
            return
        finally:
            self.closed = (connection.close_code or 1006, connection.close_reason or "")
            async with self._news:
                self._news.notify_all()


class Member(WebSocketClient):
    """A member of a room who catches up after reconnecting; the client library knows from which number."""

    def __init__(self, browser: Browser, room: str, endpoint: Endpoint, origin: str | None = None) -> None:
        super().__init__(browser, f"/ws/chat/{room}/", endpoint, origin)
        self.room = room
        self.received_room = Room()

    async def enter(self, *, welcome: bool = True) -> Self:
        """Connect or reconnect, and wait for the welcome."""
        self.path = f"/ws/chat/{self.room}/{self.received_room.query}"
        self.received_room.opened()
        return await super().enter(welcome=welcome)

    async def say(self, text: str, id: str | None = None) -> str:
        """Send a message with an id of its own and return the id, without waiting until it is stored."""
        id = id or uuid.uuid4().hex
        await self.send_text(json.dumps({"message": text, "id": id}))
        return id

    async def send(self, text: str, within: float = 10) -> Frame:
        """Send a message and wait until it comes back, which means that it is stored."""
        id = await self.say(text)
        return await self.wait_for_frame(lambda frame: frame.get("id") == id and "seq" in frame, within=within)

    async def wait_for(self, text: str, within: float = 10) -> Frame:
        """Wait until a message with this text has arrived."""
        return await self.wait_for_frame(lambda frame: frame.get("message") == text, within=within)

    def on_frame(self, frame: Frame) -> None:
        self.received_room.frame(frame)

    @property
    def messages(self) -> dict[int, str]:
        """The received messages by number. A message that was received twice must be the same both times."""
        texts: dict[int, str] = {}
        for frame in self.frames:
            if frame.get("type") == "message":
                assert texts.setdefault(frame["seq"], frame["message"]) == frame["message"]
        return texts
