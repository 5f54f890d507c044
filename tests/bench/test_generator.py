"""A member of the load is in a room when the room says so, before a scripted server."""

import asyncio
import json
from typing import Any

import pytest
from bench import frames
from bench.generator import Address, Crowd
from websockets.asyncio.server import ServerConnection, serve

from channelbox_client import Room

WELCOME = {"type": "welcome", "protocol": 2, "epoch": "e", "floor": 1, "seq": 0, "you": "alice"}
PRESENCE = {"type": "presence", "count": 1, "users": ["welcome"]}  # a frame that has the word, and is none


async def joins(*opening: dict[str, Any], close: int | None = None) -> None:
    """One member joins a server that begins with these frames, and hears what it says itself."""

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
            heard = asyncio.get_running_loop().create_future()
            crowd.say("hall", 0, heard.set_result)
            async with asyncio.timeout(10):
                await heard
        finally:
            await crowd.close()


async def test_a_member_joins_by_the_welcome_and_hears_what_is_said() -> None:
    assert frames.number_in(json.dumps(WELCOME).encode()) is None
    await joins(PRESENCE, WELCOME)


async def test_no_other_frame_is_taken_for_the_welcome() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await joins(PRESENCE, close=1013)
    assert "closed with 1013" in str(raised.value.exceptions[0])


async def test_a_refusal_is_told_by_its_word_and_sentence() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await joins({"error": "The room is full.", "code": "room_full"}, close=4000)
    assert str(raised.value.exceptions[0]) == "not let in: room_full, The room is full."
