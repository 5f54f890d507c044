"""Joins are done in slices: one turn of the event loop does a limited number of their steps."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.support.waiting import most_in_a_turn
from uvicorn.config import Config
from uvicorn.server import ServerState

from channelbox.realtime import protocol_switch
from channelbox.realtime.batch_loader import BatchLoader
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Refused
from channelbox.realtime.join_steps import SLICE_STEPS, JoinSteps
from channelbox.realtime.protocol_switch import ProtocolSwitch
from channelbox.realtime.redis_keys import process_name
from channelbox.realtime.room_slots import RoomSlots

CROWD = 5 * SLICE_STEPS
UPGRADE = (
    b"GET /ws/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def exhausted_steps() -> JoinSteps:
    """Return the join steps of the loop, with this turn's slice used up."""
    steps = JoinSteps.of(asyncio.get_running_loop())
    for _ in range(SLICE_STEPS):
        steps.go_on(lambda: None)
    return steps


async def test_a_single_step_is_done_immediately() -> None:
    steps = JoinSteps.of(asyncio.get_running_loop())
    done: list[str] = []
    steps.begin(lambda: done.append("begun"))
    steps.go_on(lambda: done.append("gone on"))
    assert done == ["begun", "gone on"]


async def test_each_turn_does_at_most_one_slice_of_steps() -> None:
    steps = JoinSteps.of(asyncio.get_running_loop())
    done: list[int] = []
    for number in range(CROWD):
        steps.go_on(functools.partial(done.append, number))
    assert len(done) == SLICE_STEPS
    before = len(done)
    assert await most_in_a_turn(lambda: len(done) - before, CROWD - before) <= SLICE_STEPS
    assert done == list(range(CROWD))


async def test_joins_continue_in_slices_after_a_shared_lookup() -> None:
    async def look_up(keys: list[int]) -> Mapping[int, int]:
        await asyncio.sleep(0)
        return {key: key for key in keys}

    loader = BatchLoader(look_up)
    joins = [asyncio.create_task(loader.get(key)) for key in range(CROWD)]
    assert await most_in_a_turn(lambda: sum(join.done() for join in joins), CROWD) <= SLICE_STEPS
    assert [join.result() for join in joins] == list(range(CROWD))


async def test_joins_fail_in_slices_after_a_failed_shared_lookup() -> None:
    async def look_up(keys: list[int]) -> Mapping[int, int]:
        raise OSError("away")

    loader = BatchLoader(look_up)
    joins = [asyncio.create_task(loader.get(key)) for key in range(CROWD)]
    assert await most_in_a_turn(lambda: sum(join.done() for join in joins), CROWD) <= SLICE_STEPS
    assert all(isinstance(join.exception(), OSError) for join in joins)


async def test_joins_continue_in_slices_after_taking_slots(bus: Bus) -> None:
    slots = RoomSlots(bus, process_name())
    await slots.start()
    try:
        joins = [asyncio.create_task(slots.take("r", CROWD)) for _ in range(CROWD)]
        assert await most_in_a_turn(lambda: sum(join.done() for join in joins), CROWD) <= SLICE_STEPS
        await asyncio.gather(*joins)
        with pytest.raises(Refused):
            await slots.take("r", CROWD)
    finally:
        await slots.stop()


async def test_a_join_cancelled_before_its_turn_returns_its_slot(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[Callable[[], object]] = []
    monkeypatch.setattr(JoinSteps, "go_on", lambda self, step: waiting.append(step))
    slots = RoomSlots(bus, process_name())
    await slots.start()
    try:
        join = asyncio.create_task(slots.take("r", 1))
        async with asyncio.timeout(10):
            while not waiting:
                await asyncio.sleep(0)
        join.cancel()
        await asyncio.gather(join, return_exceptions=True)
        waiting.pop()()
        other = asyncio.create_task(slots.take("r", 1))
        async with asyncio.timeout(10):
            while not waiting:
                await asyncio.sleep(0)
        waiting.pop()()
        await other
    finally:
        await slots.stop()


class Transport(asyncio.Transport):
    """A transport that records what is written, and whether reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.paused = self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def connection() -> tuple[ProtocolSwitch, Transport]:
    """Return a new connection that has received nothing yet."""
    config = Config("unused:unused", ws="none", lifespan="off")
    switch = ProtocolSwitch(config=config, server_state=ServerState(), app_state={})
    transport = Transport()
    switch.connection_made(transport)
    return switch, transport


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list to which the transport of each connection that becomes a WebSocket is appended."""
    upgraded: list[Any] = []
    monkeypatch.setattr(
        protocol_switch.FrameProtocol, "take_over", lambda transport, *rest, **more: upgraded.append(transport)
    )
    return upgraded


async def test_websockets_are_started_in_slices(upgraded: list[Any]) -> None:
    exhausted_steps()
    for _ in range(CROWD):
        connection()[0].data_received(UPGRADE)
    assert await most_in_a_turn(lambda: len(upgraded), CROWD) <= SLICE_STEPS


async def test_joins_in_progress_have_priority_over_new_ones(upgraded: list[Any]) -> None:
    steps = exhausted_steps()
    connection()[0].data_received(UPGRADE)
    begun: list[int] = []
    for _ in range(CROWD):
        steps.go_on(lambda: begun.append(len(upgraded)))
    await most_in_a_turn(lambda: len(upgraded), 1)
    assert begun == [0] * CROWD


async def test_a_failing_step_does_not_block_others() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    steps = exhausted_steps()
    steps.go_on(lambda: 1 // 0)
    async with asyncio.timeout(10):
        await steps.turn()


async def test_a_connection_lost_before_its_turn_is_not_started(upgraded: list[Any]) -> None:
    switch, transport = connection()
    steps = exhausted_steps()
    switch.data_received(UPGRADE)
    transport.close()
    switch.connection_lost(None)
    await steps.turn()
    await asyncio.sleep(0)
    assert not upgraded


async def test_data_before_the_turn_is_kept_and_reading_is_paused(
    upgraded: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def record_request(request: bytes) -> object:
        read.append(request)
        return object()

    monkeypatch.setattr(protocol_switch.handshake, "read", record_request)
    switch, transport = connection()
    exhausted_steps()
    switch.data_received(UPGRADE)
    switch.data_received(b"more")
    assert transport.paused
    await most_in_a_turn(lambda: len(upgraded), 1)
    assert (read, transport.paused) == ([UPGRADE + b"more"], False)
