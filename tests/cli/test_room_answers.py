"""The findings of `channelbox doctor` for each answer that the WebSocket of a room can give, from a scripted site."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from channelbox.cli.finding import Finding
from channelbox.cli.site_probe import SiteProbe
from channelbox.realtime.errors import Close, Code, Refused
from channelbox.version import PROTOCOL
from channelbox_client import connection

WELCOME = {"type": "welcome", "protocol": PROTOCOL, "version": "9.9", "room": "lobby", "epoch": "e", "seq": 0}
JOURNAL = "journalctl -u 'channelbox-web@*' -n 50"

Script = Callable[[ServerConnection], Any]


def refusal(code: Code, close: Close) -> Script:
    """Return a script that refuses a client as RealtimeConsumer.refuse does."""

    async def answer(socket: ServerConnection) -> None:
        await socket.send(json.dumps(Refused(code, "A sentence.", close=close).frame))
        await socket.close(close, code)

    return answer


def welcome(**fields: object) -> Script:
    async def answer(socket: ServerConnection) -> None:
        await socket.send(json.dumps({**WELCOME, **fields}))
        await socket.wait_closed()

    return answer


async def silence(socket: ServerConnection) -> None:
    await socket.wait_closed()


async def noise(socket: ServerConnection) -> None:
    await socket.send("no JSON")
    await socket.close(1011, "oh")


@asynccontextmanager
async def site(
    own: Script, foreign: Script | None = None, status: HTTPStatus | None = None
) -> AsyncIterator[tuple[str, list[str]]]:
    """Run a site; yield its address and the list of requested paths. `status` replaces each 101."""
    paths: list[str] = []

    def answer_http(socket: ServerConnection, request: Request) -> Response | None:
        paths.append(request.path)
        if request.path.startswith("/healthz"):
            return socket.respond(HTTPStatus.OK, "ok\n127.0.0.1 http")
        return socket.respond(status, "no\n") if status else None

    async def answer(socket: ServerConnection) -> None:
        assert socket.request is not None
        home = socket.request.headers["Origin"] == f"http://{socket.request.headers['Host']}"
        script = own if home else foreign or refusal(Code.ORIGIN, Close.NOT_ALLOWED)
        await script(socket)

    async with serve(answer, "127.0.0.1", 0, process_request=answer_http) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", paths


async def examine(address: str) -> dict[str, Finding]:
    """Return the findings that follow those of the web process, by sentence."""
    found = await asyncio.to_thread(lambda: list(SiteProbe(address).examine()))
    (health,) = [at for at, finding in enumerate(found) if finding.sentence == "A web process responds."]
    return {finding.sentence: finding for finding in found[health + 2 :]}


@pytest.mark.parametrize(
    ("script", "verdict", "sentence", "remedy"),
    [
        (welcome(), "well", "WebSockets work.", ""),
        (refusal(Code.SIGN_IN, Close.SIGN_IN), "well", "WebSockets work.", ""),
        (refusal(Code.NO_ROOM, Close.NOT_ALLOWED), "well", "WebSockets work.", ""),
        (
            refusal(Code.NOT_ALLOWED, Close.NOT_ALLOWED),
            "well",
            "WebSockets work. (The room lobby is closed, or for its members only.)",
            "",
        ),
        (
            refusal(Code.ROOM_FULL, Close.ROOM_FULL),
            "note",
            "WebSockets work, but the room lobby is full.",
            "CHANNELBOX_ROOM_LIMIT",
        ),
        (
            refusal(Code.TRY_LATER, Close.TRY_LATER),
            "wrong",
            "WebSockets work, but nobody can join a room: Redis or the database does not respond to a web process.",
            JOURNAL,
        ),
        (refusal(Code.TRY_LATER, Close.RESTART), "note", "The web process that answered is restarting.", "again"),
        (
            refusal(Code.TOO_MANY, Close.TOO_MUCH),
            "note",
            "Cannot test joining a room: too many connections from this address.",
            "CHANNELBOX_SOCKETS_ADDRESS",
        ),
        (
            welcome(protocol=PROTOCOL + 1),
            "note",
            f"The web process uses protocol version {PROTOCOL + 1}, but the package on this node uses {PROTOCOL}.",
            "channelbox status",
        ),
        (
            noise,
            "wrong",
            "WebSockets work, but nobody can join a room: the connection is closed with 1011 (oh).",
            JOURNAL,
        ),
        (
            refusal(Code.ORIGIN, Close.NOT_ALLOWED),
            "wrong",
            "Pages of {site} cannot open WebSockets: their origin is refused.",
            "CHANNELBOX_ORIGINS",
        ),
    ],
)
async def test_each_answer_of_a_room_gives_its_finding(
    script: Script, verdict: str, sentence: str, remedy: str
) -> None:
    async with site(script) as (address, paths):
        found = await examine(address)
    finding = found[sentence.format(site=address)]
    assert finding.verdict == verdict
    assert remedy in finding.remedy
    assert paths[1] == "/ws/chat/lobby/?after=0"  # creates no room
    if verdict != "wrong":
        assert found["WebSockets from pages of other sites are refused."].verdict == "well"


async def test_a_room_that_does_not_answer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "OPENING_TIMEOUT", 0.2)
    async with site(silence) as (address, _):
        found = await examine(address)
    (finding,) = found.values()
    assert finding.verdict == "wrong"
    assert "there is no answer" in finding.sentence


@pytest.mark.parametrize(
    ("status", "verdict", "sentence"),
    [
        (HTTPStatus.BAD_REQUEST, "wrong", "Cannot open the WebSocket: HTTP 400 instead of 101."),
        (HTTPStatus.BAD_GATEWAY, "wrong", "No web process accepts the WebSocket: nginx answers with 502."),
        (
            HTTPStatus.TOO_MANY_REQUESTS,
            "note",
            "Cannot test joining a room: too many connections from this address.",
        ),
    ],
)
async def test_each_http_status_instead_of_101_gives_its_finding(
    status: HTTPStatus, verdict: str, sentence: str
) -> None:
    async with site(silence, status=status) as (address, _):
        found = await examine(address)
    assert found[sentence].verdict == verdict


@pytest.mark.parametrize(
    ("foreign", "verdict"),
    [
        (refusal(Code.ORIGIN, Close.NOT_ALLOWED), "well"),
        (refusal(Code.NOT_ALLOWED, Close.NOT_ALLOWED), "wrong"),  # the room refuses, so the Origin was accepted
        (refusal(Code.SIGN_IN, Close.SIGN_IN), "wrong"),
        (refusal(Code.TRY_LATER, Close.TRY_LATER), "wrong"),
        (welcome(), "wrong"),
        (noise, "note"),
    ],
)
async def test_only_an_origin_refusal_counts_as_protection_from_other_sites(foreign: Script, verdict: str) -> None:
    async with site(welcome(), foreign) as (address, _):
        (*_, last) = (await examine(address)).values()
    assert last.verdict == verdict, last
