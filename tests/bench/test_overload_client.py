"""The client of the overload scenarios follows docs/protocol.md, tested against a scripted server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bench.generator import Address
from bench.overload.client import Client, DashboardClient
from websockets.asyncio.server import ServerConnection, serve

from channelbox_client import Room
from channelbox_client.outbox import RETRY_SECONDS

Frame = dict[str, Any]


def welcome(seq: int = 0, **fields: object) -> Frame:
    return {"type": "welcome", "protocol": 2, "epoch": "e 1", "floor": 1, "seq": seq, "you": "alice", **fields}


def message(seq: int, id: str = "", user: str = "bob") -> Frame:
    return {"type": "message", "seq": seq, "id": id or f"b{seq}", "user": user, "message": "hi"}


class ScriptedSite:
    """A server that sends each connection `frames`, and then the `answers` to each frame that it receives."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.answers: Callable[[Frame], list[Frame]] = lambda frame: []
        self.paths: list[str] = []
        self.address: Address

    async def serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.paths.append(socket.request.path)
        for frame in self.frames:
            await socket.send(json.dumps(frame))
        async for text in socket:
            for frame in self.answers(json.loads(text)):
                await socket.send(json.dumps(frame))

    @asynccontextmanager
    async def client(self, kind: type[Client] = Client, room: Room | None = None) -> AsyncIterator[Client]:
        """Connect a client and wait until it has joined."""
        async with serve(self.serve, "127.0.0.1", 0) as server:
            address = Address(server.sockets[0].getsockname()[1], "/ws/chat/{room}/")
            client = await kind.connect(address, "hall", 0, room)
            try:
                await client.entered
                yield client
            finally:
                client.transport.abort()


async def answered(client: Client) -> list[float]:
    """Send the messages one and two, and return the seconds to wait that their answers give."""
    waits: list[float] = []
    both = asyncio.Event()

    def note(wait: float) -> None:
        waits.append(wait)
        if len(waits) == 2:
            both.set()

    client.answered = note
    client.say("one", "hi")
    client.say("two", "hi")
    async with asyncio.timeout(10):
        await both.wait()
    return waits


async def test_own_events_and_stored_frames_are_answers_others_events_not() -> None:
    site = ScriptedSite()
    site.frames = [welcome()]

    def answers(frame: Frame) -> list[Frame]:
        if frame["id"] == "one":
            return [message(1, "one", "bob"), message(2, "two", "bob"), message(3, "one", "alice")]
        return [{"type": "stored", "id": "two", "seq": 1}]

    site.answers = answers
    async with site.client() as client:
        assert await answered(client) == [0, 0]
        assert (client.stored, client.heard, client.room.last) == (2, 3, 3)
        assert not client.refused


async def test_temporary_refusals_return_the_seconds_to_wait() -> None:
    site = ScriptedSite()
    site.frames = [welcome()]
    refusals: dict[str, Frame] = {"one": {"code": "too_fast", "retry_after": 0.25}, "two": {"code": "queue_full"}}
    site.answers = lambda frame: [{"error": "No.", "id": frame["id"], **refusals[frame["id"]]}]
    async with site.client() as client:
        assert await answered(client) == [0.25, RETRY_SECONDS]
        assert client.refused == {"too_fast": 1, "queue_full": 1}
        assert not client.waiting

    site.answers = lambda frame: [{"error": "No.", "code": "invalid", "id": frame["id"]}]
    async with site.client() as client:
        assert await answered(client) == [0, 0]


async def test_a_returning_client_resumes_and_counts_missed_events() -> None:
    site = ScriptedSite()
    site.frames = [welcome(2), message(1), message(2)]
    async with site.client() as client:
        async with asyncio.timeout(10):
            await client.until(2)
        room = client.room
    site.frames = [welcome(9, resumed=True), message(3), {"type": "gap", "from": 4, "to": 5, "gone": True}, message(6)]
    async with site.client(room=room) as client:
        async with asyncio.timeout(10):
            await client.until(6)
        assert (client.heard, client.missed) == (2, 2)
    assert site.paths == ["/ws/chat/hall/", "/ws/chat/hall/?after=2&epoch=e%201"]


async def test_a_skipped_number_counts_as_missed() -> None:
    site = ScriptedSite()
    site.frames = [welcome(4), message(1), message(2), message(4)]
    async with site.client() as client, asyncio.timeout(10):
        while not client.missed:
            await asyncio.sleep(0.01)


async def test_a_dashboard_is_joined_at_its_own_welcome() -> None:
    site = ScriptedSite()
    site.frames = [{"type": "welcome", "series": {}}]
    async with site.client(DashboardClient) as client:
        assert client.entered.done()
