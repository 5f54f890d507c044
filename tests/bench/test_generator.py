"""Members of the load generator join a room at its welcome, tested against a scripted server."""

import asyncio
import json
from typing import Any

import pytest
from bench import frames
from bench.generator import Address, Crowd
from websockets.asyncio.server import ServerConnection, serve

from channelbox_client import Room

WELCOME = {"type": "welcome", "protocol": 2, "epoch": "e", "floor": 1, "seq": 0, "you": "alice"}
PRESENCE = {"type": "presence", "count": 1, "users": ["welcome"]}  # contains the word, but is not a welcome


async def join(*opening: dict[str, Any], close: int | None = None) -> None:
    """Let one member join a server that begins with these frames, and receive its own message."""

    async def room(socket: ServerConnection) -> None:
        for frame in opening:
            await socket.send(json.dumps(frame))
        if close is not None:
            await socket.close(close)
        async for text in socket:
            await socket.send(json.dumps({"type": "message", "seq": 1, "message": text}))

    async with serve(room, "127.0.0.1", 0) as server:
        crowd = Crowd(Address(server.sockets[0].getsockname()[1], "/ws/chat/{room}/", state=Room))
        try:
            await crowd.connect({"hall": 1})
            received = asyncio.get_running_loop().create_future()
            crowd.say("hall", 0, received.set_result)
            async with asyncio.timeout(10):
                await received
        finally:
            await crowd.close()


async def test_a_member_joins_at_the_welcome_and_receives_messages() -> None:
    assert frames.number_in(json.dumps(WELCOME).encode()) is None
    await join(PRESENCE, WELCOME)


async def test_other_frames_are_not_mistaken_for_the_welcome() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await join(PRESENCE, close=1013)
    assert "closed with 1013" in str(raised.value.exceptions[0])


async def test_a_refusal_is_reported_with_its_code_and_message() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await join({"error": "The room is full.", "code": "room_full"}, close=4000)
    assert str(raised.value.exceptions[0]) == "not let in: room_full, The room is full."
