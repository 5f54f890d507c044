"""The asyncio transport, before a server that says what the test wants."""

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


class Script:
    """Each connection gets its frames; then it is closed with its code, or stays. What is said is stored at once."""

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
async def served(script: Script) -> AsyncIterator[Script]:
    async with serve(script, "127.0.0.1", 0) as server:
        script.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws/chat/lobby/"
        yield script


@asynccontextmanager
async def present(script: Script, hear: Callable[[dict[str, Any]], None], **more: Any) -> AsyncIterator[Room]:
    async with served(script):
        room = Room(script.url, hear, client=RoomClient(random=lambda: 0.0), proxy=None, **more)
        running = asyncio.create_task(room.run())
        try:
            async with asyncio.timeout(15):
                yield room
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_first_history_that_breaks_off_is_resumed_behind_what_came() -> None:
    heard: list[int] = []
    first: Frames = [welcome(3), message(1), message(2)]
    script = Script((first, 1012), ([welcome(3, resumed=True), message(3)], None))
    async with present(script, lambda event: heard.append(event["seq"])) as room:
        await room.until(lambda: len(heard) == 3)
    assert heard == [1, 2, 3]
    assert [path.partition("?")[2] for path in script.paths] == ["", "after=2&epoch=e1"]


class Replacing(Room):
    """Connects anew at the first event, when others are there already to be read."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.came: list[Any] = []

    async def on_frame(self, frame: Any) -> None:
        self.came.append((frame["type"], frame["seq"]))
        self.take(frame)
        if self.came == [("welcome", 4), ("message", 1)]:
            self.connect()


async def test_nothing_comes_of_a_connection_that_was_replaced() -> None:
    first: Frames = [welcome(4), *(message(seq) for seq in (1, 2, 3, 4))]
    async with served(Script((first, None), ([welcome(5, resumed=True)], None))) as script, asyncio.timeout(15):
        room = Replacing(script.url, proxy=None)
        running = asyncio.create_task(room.run())
        await room.until(lambda: room.client.state == "catching_up")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert room.came == [("welcome", 4), ("message", 1), ("welcome", 5)]


async def test_an_error_first_junk_and_frames_of_later_kinds_are_survived() -> None:
    error = {"error": "Something is down.", "code": "try_later", "retry_after": 0.1}
    frames: Frames = [error, "no JSON", "[]", "7", {"type": "later"}, message(9), welcome(0), {"type": "later", "x": 1}]
    heard: list[int] = []
    async with present(Script((frames, None)), lambda event: heard.append(event["seq"])) as room:
        id = room.say("hi")
        assert room.unanswered == [id]
        await room.until(lambda: not room.unanswered)
    assert heard == [1]


async def test_what_is_said_while_the_server_is_away_is_said_when_it_is_back() -> None:
    heard: list[str] = []
    script = Script(([], 1013), ([welcome(0)], None))
    async with present(script, lambda event: heard.append(event["id"])) as room:
        ids = [room.say(f"{number}") for number in range(5)]
        await room.until(lambda: not room.unanswered)
    assert heard == ids


async def test_what_is_said_while_an_event_is_heard_follows_what_waits() -> None:
    """The event completes the catching up, so what was said before is sent behind it, and the answer behind that."""
    stored: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        if event["user"] == "alice":
            stored.append(event["id"])
        else:
            said.extend(room.say(text) for text in {1: ["a", "b"], 2: ["c"]}[event["seq"]])

    said: list[str] = []
    first: Frames = [welcome(1), message(1)]
    async with present(Script((first, 1012), ([welcome(2, resumed=True), message(2)], None)), hear) as room:
        await room.until(lambda: len(stored) == 3)
    assert stored == said


class Echoing(Room):
    """Says a second thing as soon as it sees that the first one waits."""

    def on_effect(self, effect: Effect) -> None:
        if isinstance(effect, OutboxChanged) and len(self.unanswered) == 1:
            self.say("second", id="2")


async def test_what_is_said_has_the_id_that_is_returned() -> None:
    room = Echoing("ws://127.0.0.1/", proxy=None)
    assert room.say("first", id="1") == "1"
    assert room.unanswered == ["1", "2"]


async def test_another_room_of_this_name_is_forgotten_first() -> None:
    seen: list[Any] = []
    script = Script(([welcome(1), message(1)], 1012), ([welcome(1, epoch="e2"), message(1)], None))
    async with present(script, lambda event: seen.append(event["seq"]), forget=lambda: seen.append("forget")) as room:
        await room.until(lambda: len(seen) == 3)
    assert seen == [1, "forget", 1]


@pytest.mark.parametrize("code", [4001, 4003])
async def test_who_is_not_let_in_is_told(code: int) -> None:
    async with served(Script(([{"error": "No.", "code": "sign_in"}], code))) as script, asyncio.timeout(15):
        with pytest.raises(Stopped, match=f"closed with {code} as written"):
            await Room(script.url, proxy=None).run()


async def test_what_one_person_said_is_not_sent_as_another_who_is_signed_in_now() -> None:
    async with served(Script(([welcome(0)], 1012), ([welcome(0, you="bob", resumed=True)], None))) as script:
        room = Room(script.url, lambda event: None, client=RoomClient(random=lambda: 0.0), proxy=None)
        id = room.say("hello")
        async with asyncio.timeout(15):
            with pytest.raises(Stopped) as stopped:
                await room.run()
    assert (stopped.value.code, stopped.value.reason) == (4001, "other_person")
    assert room.unanswered == [id]


async def test_what_hear_raises_ends_the_run() -> None:
    def hear(event: dict[str, Any]) -> None:
        raise KeyError(event["seq"])

    async with served(Script(([welcome(1), message(1)], None))) as script, asyncio.timeout(15):
        with pytest.raises(KeyError):
            await Room(script.url, hear, proxy=None).run()


async def test_after_hear_has_raised_nothing_more_is_heard() -> None:
    """Also not of what came up meanwhile."""
    seen: list[Any] = []

    def hear(event: dict[str, Any]) -> None:
        seen.append(event["seq"])
        room.take(message(2))
        raise KeyError(event["seq"])

    async with served(Script(([welcome(2), message(1)], None))) as script, asyncio.timeout(15):
        room = Room(script.url, hear, proxy=None)
        with pytest.raises(KeyError):
            await room.run()
    assert seen == [1]


class Failing(Room):
    """Cannot send, or cannot hear."""

    def on_sent(self, frame: dict[str, Any]) -> None:
        raise RuntimeError("it cannot be sent")


async def test_what_fails_while_sending_ends_the_run_and_the_next_run_begins_anew() -> None:
    async with served(Script(([welcome(0)], None))) as script, asyncio.timeout(15):
        room = Failing(script.url, client=RoomClient(random=lambda: 0.0), proxy=None)
        for _ in range(2):
            running = asyncio.create_task(room.run())
            await room.until(lambda: room.client.state == "joined")
            room.say("hi")
            with pytest.raises(RuntimeError, match="cannot be sent"):
                await running
