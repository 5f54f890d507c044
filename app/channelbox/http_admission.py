"""HTTP requests are admitted on the event loop, before Django: by address and session, and so many at work at once.

Each request that Django handles takes a thread, and many threads at once hold up the loop that serves the sockets. Here
nothing is looked up: the session is the cookie's text, whether or not there is such a session.
"""

import asyncio
import hashlib
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from channelbox.accounts.socket_auth import session_key
from channelbox.realtime.admission import Admission, Kind, Source, sentence
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Code
from channelbox.realtime.fair_queue import Crowded, FairQueue, Turn
from channelbox.realtime.join_admission import address_of
from channelbox.security import POLICY

# Also when everybody waits too long: many balancers take a 503 for a node that is down: no client may cause it.
STATUS = 429
WAIT_SECONDS = 10.0  # for a turn, at most
HEALTH_WAIT_SECONDS = 4.0  # there: balancers give up on a node after some seconds more
BUSY_RETRY_SECONDS = 3.0
SLOW_SECONDS = 0.05  # at work, after which another request may be at work beside it
REFUSAL_SECONDS = 1.0  # before a refusal is sent: whoever asks again at once is slowed down
MAX_REFUSALS_HELD = 1000  # that wait for it; more are sent at once
HEALTH = "/healthz"  # has a turn of its own: balancers ask there
API = "/chat/api/"

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class RequestRefused(Exception):
    """Raised to the application while it waits for the request's body."""

    def __init__(self, code: Code, words: str, retry_after: float) -> None:
        super().__init__(words)
        self.code = code
        self.retry_after = retry_after


class ClientGone(Exception):
    """The client went away before its turn came."""


class HttpAdmission:
    """ASGI middleware for HTTP. What is refused is answered with 429."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self._held = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        session = session_key(scope["headers"])
        # The key is a secret, and what is counted is told to other processes.
        person = hashlib.blake2b(session.encode(), digest_size=9).hexdigest() if session else None
        source = Source(address_of(scope), person)
        turn: Turn | None = None

        async def receive_in_turn() -> dict[str, Any]:
            """The last of the body comes when it is this request's turn: who sends slowly takes nobody's."""
            nonlocal turn
            message = await receive()
            if turn is None and message["type"] == "http.request" and not message.get("more_body"):
                turn = await _turn(_queue(scope["path"]), source, receive, _patience(scope["path"]))
            return message

        async def send_and_end(message: dict[str, Any]) -> None:
            """The turn ends when the answer begins: who reads slowly takes nobody's."""
            if turn is not None:
                turn.end()
            await send(message)

        try:
            # Whoever asks for pages behind a balancer's address must not have the node taken for a dead one.
            wait, whose = (0.0, "") if scope["path"] == HEALTH else Admission.current().take(Kind.REQUESTS, source)
            if wait:
                raise RequestRefused(Code.TOO_FAST, sentence(Kind.REQUESTS, math.ceil(wait), whose), wait)
            await self.application(scope, receive_in_turn, send_and_end)
        except RequestRefused as refused:
            await self._refuse(refused, scope["path"], send)
        except ClientGone:
            pass
        finally:
            if turn is not None:
                turn.end()

    async def _refuse(self, refused: RequestRefused, path: str, send: Send) -> None:
        if self._held < MAX_REFUSALS_HELD and path != HEALTH:
            self._held += 1
            try:
                await asyncio.sleep(REFUSAL_SECONDS)
            finally:
                self._held -= 1
        seconds = math.ceil(refused.retry_after)
        kind, body = _json(refused, seconds) if path.startswith(API) else _page(refused)
        headers = {
            "content-type": kind,
            "content-length": str(len(body)),
            "retry-after": str(seconds),
            "cache-control": "no-store",
            "content-security-policy": POLICY,
            "x-content-type-options": "nosniff",
        }
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": STATUS, "headers": encoded})
        await send({"type": "http.response.body", "body": body})


async def _turn(queue: FairQueue, source: Source, receive: Receive, seconds: float) -> Turn:
    """Wait so many seconds for a turn. Raises RequestRefused when it does not come, ClientGone when nobody waits."""
    try:
        turn = queue.ask(source.address or "", source.person or "")
        if not turn.granted.done():
            await _granted(turn, receive, seconds)
    except Crowded:
        words = f"Too many requests are waiting. Try again in {BUSY_RETRY_SECONDS:.0f} s."
        raise RequestRefused(Code.TOO_FAST, words, BUSY_RETRY_SECONDS) from None
    except TimeoutError:
        words = f"The server is busy. Try again in {BUSY_RETRY_SECONDS:.0f} s."
        raise RequestRefused(Code.TRY_LATER, words, BUSY_RETRY_SECONDS) from None
    return turn


async def _granted(turn: Turn, receive: Receive, seconds: float) -> None:
    gone = asyncio.ensure_future(receive())  # behind the body comes only the end
    try:
        waiting: set[asyncio.Future[Any]] = {turn.granted, gone}
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise ClientGone
        if not turn.granted.done():
            raise TimeoutError
        turn.granted.result()
    except BaseException:
        turn.end()
        raise
    finally:
        gone.cancel()


def _patience(path: str) -> float:
    return HEALTH_WAIT_SECONDS if path == HEALTH else WAIT_SECONDS


def _queue(path: str) -> FairQueue:
    pages, health = Bus.current().share(
        HttpAdmission,
        lambda: (
            FairQueue(settings.CHANNELBOX_REQUESTS_AT_ONCE, settings.CHANNELBOX_REQUESTS_WAITING, SLOW_SECONDS),
            FairQueue(1, settings.CHANNELBOX_REQUESTS_WAITING),
        ),
    )
    return health if path == HEALTH else pages


def _json(refused: RequestRefused, seconds: int) -> tuple[str, bytes]:
    content = {"error": str(refused), "code": str(refused.code), "retry_after": seconds}
    return "application/json", json.dumps(content).encode()


def _page(refused: RequestRefused) -> tuple[str, bytes]:
    title = "Too many requests" if refused.code is Code.TOO_FAST else "Server busy"
    page = f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1><p>{refused}</p></html>\n'
    return "text/html; charset=utf-8", page.encode()
