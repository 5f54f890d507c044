"""Floods over many connections of one person, or from one address, are read at a rate that the connections share.

The buckets' clock stands still, so what is read is a burst, and of each connection what was read before it was charged.
"""

from typing import Any

import pytest
from pytest_django import Settings
from tests.realtime.serving import RawClient as Client
from tests.realtime.serving import Room, Run, masked, served
from tests.realtime.test_floods import Flood
from tests.support.clock import Clock, clock_of
from tests.support.waiting import until

from channelbox.realtime import read_budget, token_bucket
from channelbox.realtime.admission import TABLE, Kind
from channelbox.realtime.bus import Bus
from channelbox.realtime.consumer import RealtimeConsumer
from channelbox.realtime.frame_reader import CONTINUATION, PING, PONG, TEXT, FrameReader
from channelbox.realtime.frames import json_frame
from channelbox.realtime.read_budget import CHARGED_FRAMES, SLICE_BYTES, SLICE_FRAMES

CONNECTIONS = 30
FLOODERS, OTHERS = "127.0.0.2", "127.0.0.1"
FLOODS = {
    "pings": masked(PING),
    "pongs": masked(PONG, b"x"),
    "empty fragments": masked(CONTINUATION, first=0),
    "long fragments": masked(CONTINUATION, b"x" * 16_000, first=0),
}


class Talk(RealtimeConsumer):
    """A consumer that answers each object with its number plus one. `joined`: the list that its members go to."""

    def __init__(self, joined: list[Any], one_person: bool) -> None:
        super().__init__()
        self.joined = joined
        self.one_person = one_person  # all connections from one address, or each is another person

    async def enter(self) -> None:
        self.count(str(self.source.address) if self.one_person else f"g:{id(self)}", guest=False)
        self.joined.append(self.member)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.member.write_frames(json_frame({"n": content["n"] + 1}))


class Lobby(Room):
    """An application with one `Talk` for each connection."""

    def __init__(self, one_person: bool) -> None:
        super().__init__()
        self.one_person = one_person

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await Talk(self.members, self.one_person)(scope, receive, send)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return clock_of(token_bucket, monkeypatch)


@pytest.fixture
def slices_read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list to which the frames and bytes of each slice are appended."""
    original = FrameReader.read
    slices: list[tuple[int, int]] = []

    def recorded(reader: FrameReader, max_frames: int, max_bytes: int) -> tuple[list[Any], int, int]:
        events, frames, size = original(reader, max_frames, max_bytes)
        slices.append((frames, size))
        return events, frames, size

    monkeypatch.setattr(FrameReader, "read", recorded)
    monkeypatch.setattr(read_budget, "RECHECK_SECONDS", 0.01)
    return slices


@pytest.mark.parametrize("whose", ["person", "address"])
@pytest.mark.parametrize("piece", FLOODS.values(), ids=FLOODS)
def test_floods_of_one_person_or_address_share_a_read_limit(
    run: Run, piece: bytes, whose: str, settings: Settings, clock: Clock, slices_read: list[tuple[int, int]]
) -> None:
    """The rest is read later, other clients do not wait, and no connection is closed."""
    settings.CHANNELBOX_RATE_ADDRESS = settings.CHANNELBOX_RATE_PERSON
    settings.CHANNELBOX_RATE_BYTES = 64 * 1024
    frames_row, bytes_row = TABLE[Kind.FRAMES].person, TABLE[Kind.BYTES].person
    assert frames_row is not None and bytes_row is not None
    most_frames = frames_row().burst + CONNECTIONS * (SLICE_FRAMES + CHARGED_FRAMES)
    most_bytes = bytes_row().burst + CONNECTIONS * 2 * (SLICE_BYTES + 200)

    async def scenario() -> None:
        async with served(Lobby(whose == "person"), ws_max_size=1024 * 1024) as server:
            floods = [Flood(server.port, piece, FLOODERS) for _ in range(CONNECTIONS)]
            for flood in floods:
                await flood.begin(b"" if piece[0] & 0x0F else masked(TEXT, b"begun", first=0))
            quiet = await Client.upgraded(server.port)
            for number in range(150):
                for flood in floods if number % 50 == 0 else ():
                    flood.push()
                quiet.write(masked(TEXT, b'{"n": %d}' % number))
                assert await quiet.frame() == (0x81, b'{"n":%d}' % (number + 1))
                assert sum(frames for frames, _ in slices_read) < most_frames + number + 1
                assert sum(size for _, size in slices_read) < most_bytes + 20 * (number + 1)
            before = sum(frames for frames, _ in slices_read)
            clock.now += 60
            await until(lambda: sum(frames for frames, _ in slices_read) > before)
            assert not any(member.transport.is_closing() for member in server.room.members)
            for flood in floods:
                flood.socket.close()
            quiet.leave()
        await Bus.current().stop()

    run(scenario())
