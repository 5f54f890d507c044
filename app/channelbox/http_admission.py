"""Admission control for HTTP, before Django: rate limits by address and session, and a limit on concurrency.

Each request that Django handles takes a thread, and many threads at once delay the event loop, which also serves the
WebSockets. This middleware runs on the loop and looks nothing up: a session is the text of its cookie, whether or not
it exists.
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

# Even when the server is busy: many load balancers take a 503 for a node that is down, and no client may cause that.
STATUS = 429
WAIT_SECONDS = 10.0  # maximum wait for a turn
HEALTH_WAIT_SECONDS = 4.0  # the same for HEALTH: load balancers give up on a node some seconds later
BUSY_RETRY_SECONDS = 3.0
SLOW_SECONDS = 0.05  # after a request has run this long, another may run beside it
REFUSAL_SECONDS = 1.0  # delay before a refusal is sent: slows down clients that retry at once
MAX_REFUSALS_HELD = 1000  # refusals that are delayed at a time; more are sent at once
HEALTH = "/healthz"  # for the health checks of load balancers, in a queue of its own
API = "/chat/api/"

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class RequestRefused(Exception):
    """The request is refused. Raised into the application while it waits for the request's body."""

    def __init__(self, code: Code, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.code = code
        self.retry_after = retry_after


class ClientGone(Exception):
    """The client disconnected before its turn came."""


class HttpAdmission:
    """ASGI middleware for HTTP. Answers a refused request with 429."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self._delayed_refusals = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        session = session_key(scope["headers"])
        # A digest, because the key is a secret and other processes receive what is counted.
        person = hashlib.blake2b(session.encode(), digest_size=9).hexdigest() if session else None
        source = Source(address_of(scope), person)
        turn: Turn | None = None

        async def receive_in_turn() -> dict[str, Any]:
            """Return the end of the body when it is this request's turn, so that a slow upload occupies no turn."""
            nonlocal turn
            message = await receive()
            if turn is None and message["type"] == "http.request" and not message.get("more_body"):
                turn = await _turn(_queue(scope["path"]), source, receive, _max_wait_seconds(scope["path"]))
            return message

        async def send_and_end(message: dict[str, Any]) -> None:
            """End the turn when the response begins, so that a slow reader occupies no turn."""
            if turn is not None:
                turn.end()
            await send(message)

        try:
            # Not counted: requests for pages from a load balancer's address must not make its health checks fail.
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
        if self._delayed_refusals < MAX_REFUSALS_HELD and path != HEALTH:
            self._delayed_refusals += 1
            try:
                await asyncio.sleep(REFUSAL_SECONDS)
            finally:
                self._delayed_refusals -= 1
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
    """Wait up to `seconds` for a turn. Raises RequestRefused when none comes, ClientGone on a disconnect."""
    try:
        turn = queue.request(source.address or "", source.person or "")
        if not turn.granted.done():
            await _wait_until_granted(turn, receive, seconds)
    except Crowded:
        text = f"Too many requests are waiting. Try again in {BUSY_RETRY_SECONDS:.0f} s."
        raise RequestRefused(Code.TOO_FAST, text, BUSY_RETRY_SECONDS) from None
    except TimeoutError:
        text = f"The server is busy. Try again in {BUSY_RETRY_SECONDS:.0f} s."
        raise RequestRefused(Code.TRY_LATER, text, BUSY_RETRY_SECONDS) from None
    return turn


async def _wait_until_granted(turn: Turn, receive: Receive, seconds: float) -> None:
    disconnected = asyncio.ensure_future(receive())  # after the body, only the disconnect can come
    try:
        waiting: set[asyncio.Future[Any]] = {turn.granted, disconnected}
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if disconnected.done():
            raise ClientGone
        if not turn.granted.done():
            raise TimeoutError
        turn.granted.result()
    except BaseException:
        turn.end()
        raise
    finally:
        disconnected.cancel()


def _max_wait_seconds(path: str) -> float:
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
