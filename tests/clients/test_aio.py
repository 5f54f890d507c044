"""The asyncio transport, tested against a scripted server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from channelbox_client import RoomClient
from channelbox_client.aio import Room, Stopped
from channelbox_client.effects import Effect, OutboxChanged

Frames = list[dict[str, Any] | str]


def welcome(seq: int, **fields: Any) -> dict[str, Any]:
    return {"type": "welcome", "seq": seq, "you": "alice", "may": [], "resumed": False, "epoch": "e1", **fields}


def message(seq: int, user: str = "bob", id: str = "") -> dict[str, Any]:
    return {"type": "message", "seq": seq, "id": id or f"{user}-{seq}", "user": user, "message": "hi"}


class ScriptedServer:
    """A server that sends each connection its frames, then closes it with its code, or keeps it and stores messages."""

    def __init__(self, *connections: tuple[Frames, int | None]) -> None:
        self.connections = list(connections)
        self.paths: list[str] = []
        self.url = ""

    async def __call__(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.paths.append(socket.request.path)
        frames, code = self.connections[min(len(self.paths), len(self.connections)) - 1]
        seq = 0
        for frame in frames:
            await socket.send(frame if isinstance(frame, str) else json.dumps(frame))
            seq = frame.get("seq", seq) if isinstance(frame, dict) else seq
        if code is not None:
            await socket.close(code, "as written")
            return
        async for text in socket:
            frame = json.loads(text)
            if "message" in frame:
                seq += 1
                await socket.send(json.dumps(message(seq, "alice", frame["id"])))


@asynccontextmanager
async def serving(scripted: ScriptedServer) -> AsyncIterator[ScriptedServer]:
    async with serve(scripted, "127.0.0.1", 0) as server:
        scripted.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws/chat/lobby/"
        yield scripted


@asynccontextmanager
async def running_room(
    scripted: ScriptedServer, hear: Callable[[dict[str, Any]], None], **options: Any
) -> AsyncIterator[Room]:
    async with serving(scripted):
        room = Room(scripted.url, hear, client=RoomClient(random=lambda: 0.0), proxy=None, **options)
        running = asyncio.create_task(room.run())
        try:
            async with asyncio.timeout(15):
                yield room
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_an_interrupted_first_history_is_resumed() -> None:
    received: list[int] = []
    first: Frames = [welcome(3), message(1), message(2)]
    scripted = ScriptedServer((first, 1012), ([welcome(3, resumed=True), message(3)], None))
    async with running_room(scripted, lambda event: received.append(event["seq"])) as room:
        await room.until(lambda: len(received) == 3)
    assert received == [1, 2, 3]
    assert [path.partition("?")[2] for path in scripted.paths] == ["", "after=2&epoch=e1"]


class ReconnectingRoom(Room):
    """Connects again at the first event, while further frames are waiting to be read."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.received_frames: list[Any] = []

    async def on_frame(self, frame: Any) -> None:
        self.received_frames.append((frame["type"], frame["seq"]))
        self.take(frame)
        if self.received_frames == [("welcome", 4), ("message", 1)]:
            self.connect()


async def test_frames_of_a_replaced_connection_are_ignored() -> None:
    first: Frames = [welcome(4), *(message(seq) for seq in (1, 2, 3, 4))]
    async with (
        serving(ScriptedServer((first, None), ([welcome(5, resumed=True)], None))) as scripted,
        asyncio.timeout(15),
    ):
        room = ReconnectingRoom(scripted.url, proxy=None)
        running = asyncio.create_task(room.run())
        await room.until(lambda: room.client.state == "catching_up")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert room.received_frames == [("welcome", 4), ("message", 1), ("welcome", 5)]


async def test_early_errors_and_unknown_frames_are_tolerated() -> None:
    error = {"error": "Something is down.", "code": "try_later", "retry_after": 0.1}
    frames: Frames = [error, "no JSON", "[]", "7", {"type": "later"}, message(9), welcome(0), {"type": "later", "x": 1}]
    received: list[int] = []
    async with running_room(ScriptedServer((frames, None)), lambda event: received.append(event["seq"])) as room:
        id = room.say("hi")
        assert room.unanswered == [id]
        await room.until(lambda: not room.unanswered)
    assert received == [1]


async def test_messages_sent_offline_are_delivered_on_reconnect() -> None:
    received: list[str] = []
    scripted = ScriptedServer(([], 1013), ([welcome(0)], None))
    async with running_room(scripted, lambda event: received.append(event["id"])) as room:
        ids = [room.say(f"{number}") for number in range(5)]
        await room.until(lambda: not room.unanswered)
    assert received == ids


async def test_messages_sent_from_a_callback_keep_their_order() -> None:
    """The event completes the catch-up, so the earlier messages are sent first, and the new one follows them."""
    stored: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        if event["user"] == "alice":
            stored.append(event["id"])
        else:
            said.extend(room.say(text) for text in {1: ["a", "b"], 2: ["c"]}[event["seq"]])

    said: list[str] = []
    first: Frames = [welcome(1), message(1)]
    async with running_room(
        ScriptedServer((first, 1012), ([welcome(2, resumed=True), message(2)], None)), hear
    ) as room:
        await room.until(lambda: len(stored) == 3)
    assert stored == said


class EchoingRoom(Room):
    """Sends a second message as soon as the first one is in the outbox."""

    def on_effect(self, effect: Effect) -> None:
        if isinstance(effect, OutboxChanged) and len(self.unanswered) == 1:
            self.say("second", id="2")


async def test_say_returns_the_id_of_its_own_message() -> None:
    room = EchoingRoom("ws://127.0.0.1/", proxy=None)
    assert room.say("first", id="1") == "1"
    assert room.unanswered == ["1", "2"]


async def test_a_new_epoch_calls_forget_before_its_events() -> None:
    seen: list[Any] = []
    scripted = ScriptedServer(([welcome(1), message(1)], 1012), ([welcome(1, epoch="e2"), message(1)], None))
    async with running_room(
        scripted, lambda event: seen.append(event["seq"]), forget=lambda: seen.append("forget")
    ) as room:
        await room.until(lambda: len(seen) == 3)
    assert seen == [1, "forget", 1]


@pytest.mark.parametrize("code", [4001, 4003])
async def test_a_refused_client_stops_with_the_close_code(code: int) -> None:
    async with serving(ScriptedServer(([{"error": "No.", "code": "sign_in"}], code))) as scripted, asyncio.timeout(15):
        with pytest.raises(Stopped, match=f"closed with {code} as written"):
            await Room(scripted.url, proxy=None).run()


async def test_unanswered_messages_are_not_sent_as_another_user() -> None:
    async with serving(ScriptedServer(([welcome(0)], 1012), ([welcome(0, you="bob", resumed=True)], None))) as scripted:
        room = Room(scripted.url, lambda event: None, client=RoomClient(random=lambda: 0.0), proxy=None)
        id = room.say("hello")
        async with asyncio.timeout(15):
            with pytest.raises(Stopped) as stopped:
                await room.run()
    assert (stopped.value.code, stopped.value.reason) == (4001, "other_person")
    assert room.unanswered == [id]


async def test_an_exception_in_the_callback_ends_the_run() -> None:
    def hear(event: dict[str, Any]) -> None:
        raise KeyError(event["seq"])

    async with serving(ScriptedServer(([welcome(1), message(1)], None))) as scripted, asyncio.timeout(15):
        with pytest.raises(KeyError):
            await Room(scripted.url, hear, proxy=None).run()


async def test_no_events_are_delivered_after_the_callback_raised() -> None:
    """This includes events that a frame processed in the callback has produced."""
    seen: list[Any] = []

    def hear(event: dict[str, Any]) -> None:
        seen.append(event["seq"])
        room.take(message(2))
        raise KeyError(event["seq"])

    async with serving(ScriptedServer(([welcome(2), message(1)], None))) as scripted, asyncio.timeout(15):
        room = Room(scripted.url, hear, proxy=None)
        with pytest.raises(KeyError):
            await room.run()
    assert seen == [1]


class FailingRoom(Room):
    """A client that fails to send."""

    def on_sent(self, frame: dict[str, Any]) -> None:
        raise RuntimeError("it cannot be sent")


async def test_a_failure_to_send_ends_the_run_and_run_can_be_repeated() -> None:
    async with serving(ScriptedServer(([welcome(0)], None))) as scripted, asyncio.timeout(15):
        room = FailingRoom(scripted.url, client=RoomClient(random=lambda: 0.0), proxy=None)
        for _ in range(2):
            running = asyncio.create_task(room.run())
            await room.until(lambda: room.client.state == "joined")
            room.say("hi")
            with pytest.raises(RuntimeError, match="cannot be sent"):
                await running
