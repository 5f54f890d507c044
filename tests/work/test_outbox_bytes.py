"""The outbox's limits in bytes: of what it holds, of a batch, and of one call of the queue."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from channels.exceptions import ChannelFull
from tests.work.outbox_fixtures import OutboxHarness, harnesses, ids, start_harness

from channelbox.realtime.errors import Code, Refused
from channelbox.work import outbox as outbox_module


async def test_the_outbox_has_a_limit_in_bytes(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses, max_bytes=1_000_000)
    with pytest.raises(Refused) as refused:
        harness.put(*map(str, range(200)), room="loud", text="\N{GRINNING FACE}" * 4000)
    assert refused.value.code == "queue_full"
    assert 60 <= harness.outbox._message_count <= 63  # 16 KB each
    harness.put("x", room="quiet")
    received = [await harness.sender.next() for _ in range(harness.sender.received.qsize())]
    assert received
    assert {frame["code"] for frame in received} == {Code.QUEUE_FULL}


async def test_bytes_are_released_with_the_messages(harnesses: list[OutboxHarness]) -> None:
    harness = await start_harness(harnesses)
    harness.put(*map(str, range(50)), text="x" * 10_000)
    (sender,) = harness.outbox._host_senders
    assert sender.bytes > 500_000
    stored = 0
    while stored < 50:
        for entry in await harness.taken():
            await harness.publish_outcome(entry, stored + 1)
            stored += len(ids(entry))
    await harness.empty()
    assert (sender.messages, sender.bytes) == (0, 0)


async def test_batches_and_queue_calls_have_a_limit_in_bytes(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await start_harness(harnesses, expiry=5, max_bytes=100_000_000)
    send = harness.layer.send_many
    calls: list[list[int]] = []

    async def recording_send(channel: str, messages: Sequence[Mapping[str, Any]], *args: Any, **kwargs: Any) -> None:
        calls.append([sum(len(message["text"].encode()) for message in entry["messages"]) for entry in messages])
        await send(channel, messages, *args, **kwargs)

    monkeypatch.setattr(harness.layer, "send_many", recording_send)
    for room in range(20):
        await harness.hub.hold(f"r{room}")
        harness.put(*map(str, range(25)), room=f"r{room}", text="\N{GRINNING FACE}" * 4000)
    rooms: set[str] = set()
    while len(rooms) < 20:
        rooms.update(entry["room"] for entry in await harness.taken())
    assert max(itertools.chain(*calls)) <= outbox_module.MAX_BATCH_BYTES
    assert max(map(sum, calls)) <= outbox_module.MAX_CALL_BYTES
    assert sum(map(len, calls)) == 20


async def test_a_small_batch_goes_before_the_rest_of_an_oversized_call(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_CALL_BYTES", 1)
    harness = await start_harness(harnesses, expiry=5)
    send = harness.layer.send_many
    calls: list[str] = []

    async def recording_send(channel: str, messages: Sequence[Mapping[str, Any]], *args: Any, **kwargs: Any) -> None:
        calls.extend(entry["room"] for entry in messages)
        if len(calls) == 1:
            harness.put("x", room="quiet")
        await send(channel, messages, *args, **kwargs)

    monkeypatch.setattr(harness.layer, "send_many", recording_send)
    loud = [str(number) for number in range(5)]
    for room in ("quiet", *loud):
        await harness.hub.hold(room)
    for room in loud:
        harness.put(*map(str, range(40)), room=room)
    while len(calls) < 6:
        await harness.taken()
    assert calls.index("quiet") <= 2
    assert sorted(calls) == [*loud, "quiet"]


# --- A queue that fails


async def test_a_failing_queue_is_tried_once_more_not_once_for_each_room(
    harnesses: list[OutboxHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await start_harness(harnesses, expiry=5)
    calls: list[int] = []

    async def full_then_lost(channel: str, messages: Sequence[Mapping[str, Any]], *args: Any, **kwargs: Any) -> None:
        calls.append(len(messages))
        if len(calls) == 1:
            raise ChannelFull
        raise TimeoutError

    monkeypatch.setattr(harness.layer, "send_many", full_then_lost)
    rooms = [str(number) for number in range(10)]
    for room in rooms:
        await harness.hub.hold(room)
    for room in rooms:
        harness.put("a", room=room)
    async with asyncio.timeout(10):
        while sum(calls) < 20:
            await asyncio.sleep(0.01)
    assert calls == [10, 1, 9]
