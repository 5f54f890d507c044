"""The work layer: one worker gets each message, a full channel refuses, expired messages are dropped."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgpack
import pytest
from channels.exceptions import ChannelFull
from redis.exceptions import RedisError
from tests.support.servers import RedisServer

from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.work.queue import MAX_BULK_BYTES, WorkLayer

JOBS = "jobs"


@pytest.fixture(autouse=True)
async def _connections() -> AsyncIterator[None]:
    yield
    await Bus.current().stop()


def numbered(count: int, start: int = 0) -> list[dict[str, object]]:
    return [{"type": "job", "n": n} for n in range(start, start + count)]


async def test_a_message_is_received_unchanged() -> None:
    layer = WorkLayer()
    message = {
        "type": "job",
        "text": "grüße \x00 🙂",
        "bytes": b"\xff\x00",
        "list": [1, 2.5, None, True],
        "map": {"a": 1},
    }
    await layer.send(JOBS, message)
    assert await layer.receive(JOBS) == message


async def test_receive_waits_for_a_message() -> None:
    layer = WorkLayer()
    waiting = asyncio.create_task(layer.receive(JOBS))
    await asyncio.sleep(0)
    await layer.send(JOBS, {"type": "job"})
    assert await asyncio.wait_for(waiting, 2) == {"type": "job"}


async def test_messages_keep_their_order_within_their_channel() -> None:
    layer = WorkLayer()
    await layer.send_many(JOBS, numbered(5))
    await layer.send("other", {"type": "other"})
    await layer.send(JOBS, {"type": "job", "n": 5})
    assert await layer.receive_many(JOBS, 100, 1) == numbered(6)
    assert await layer.receive_many("other", 100, 1) == [{"type": "other"}]


async def test_receive_many_returns_at_most_the_limit_and_times_out_empty() -> None:
    layer = WorkLayer()
    await layer.send_many(JOBS, numbered(5))
    assert await layer.receive_many(JOBS, 3, 1) == numbered(3)
    assert await layer.length(JOBS) == 2
    assert await layer.receive_many(JOBS, 3, 1) == numbered(2, 3)
    assert await layer.receive_many(JOBS, 3, 0.05) == []


async def test_each_message_goes_to_exactly_one_of_several_workers() -> None:
    layer = WorkLayer(capacity=3000)
    received: list[int] = []

    async def work() -> None:
        while len(received) < 3000:
            received.extend(message["n"] for message in await layer.receive_many(JOBS, 7, 0.2))

    workers = [asyncio.create_task(work()) for _ in range(4)]
    for start in range(0, 3000, 10):
        await layer.send_many(JOBS, numbered(10, start))
    await asyncio.wait_for(asyncio.gather(*workers), 30)
    assert sorted(received) == list(range(3000))


async def test_a_full_channel_refuses_new_and_keeps_queued_messages() -> None:
    layer = WorkLayer(capacity=3)
    await layer.send_many(JOBS, numbered(3))
    with pytest.raises(ChannelFull):
        await layer.send(JOBS, {"type": "job", "n": 3})
    await layer.send("other", {"type": "other"})
    assert await layer.receive_many(JOBS, 10, 1) == numbered(3)


async def test_the_bulk_list_is_read_separately() -> None:
    layer = WorkLayer()
    await layer.send_many(JOBS, numbered(5), bulk=True)
    await layer.send_many(JOBS, numbered(5, 100))
    assert await layer.length(JOBS) == 10
    assert await layer.receive_many(JOBS, 1, 1, bulk=True) == numbered(1)
    assert await layer.receive_many(JOBS, 4, 1) == numbered(4, 100)
    assert await layer.receive(JOBS) == numbered(1, 104)[0]
    assert await layer.receive_many(JOBS, 4, 0.05) == []
    assert await layer.receive_many(JOBS, 50, 1, bulk=True) == numbered(4, 1)
    assert await layer.length(JOBS) == 0


async def test_entries_read_from_the_bulk_list_are_limited_by_bytes() -> None:
    layer = WorkLayer()
    large = {"type": "job", "text": "x" * (MAX_BULK_BYTES // 4)}
    await layer.send_many(JOBS, [large] * 12, bulk=True)
    # The size of entries is unknown at first.
    assert [len(await layer.receive_many(JOBS, 50, 1, bulk=True)) for _ in range(4)] == [2, 4, 4, 2]


async def test_each_list_has_the_full_capacity_and_flush_empties_both() -> None:
    layer = WorkLayer(capacity=3)
    await layer.send_many(JOBS, numbered(3), bulk=True)
    with pytest.raises(ChannelFull):
        await layer.send_many(JOBS, numbered(1), bulk=True)
    await layer.send_many(JOBS, numbered(3))
    await layer.flush()
    assert await layer.length(JOBS) == 0


async def test_send_many_is_all_or_nothing() -> None:
    layer = WorkLayer(capacity=3)
    await layer.send(JOBS, {"type": "job"})
    with pytest.raises(ChannelFull):
        await layer.send_many(JOBS, numbered(3))
    assert await layer.length(JOBS) == 1
    with pytest.raises(ChannelFull):
        await layer.send_many("other", numbered(4))
    assert await layer.length("other") == 0
    await layer.send_many(JOBS, [])
    assert await layer.length(JOBS) == 1


async def test_a_channel_can_have_a_different_capacity() -> None:
    layer = WorkLayer(capacity=1, channel_capacity={"jobs*": 2})
    await layer.send_many(JOBS, numbered(2))
    with pytest.raises(ChannelFull):
        await layer.send_many("other", numbered(2))


async def test_expired_messages_are_dropped_and_counted() -> None:
    layer = WorkLayer(expiry=0.05)
    before = counters.expired
    await layer.send_many(JOBS, numbered(2))
    await asyncio.sleep(0.06)
    await layer.send(JOBS, {"type": "job", "n": 2})
    assert await layer.receive_many(JOBS, 10, 1) == [{"type": "job", "n": 2}]
    assert counters.expired == before + 2


async def test_all_expired_messages_make_space_for_new_ones() -> None:
    """All of them, even where fewer would be enough: they would stay in the memory of Redis."""
    layer = WorkLayer(capacity=3, expiry=0.05)
    before = counters.expired
    await layer.send_many(JOBS, numbered(3))
    await asyncio.sleep(0.06)
    await layer.send_many(JOBS, numbered(2, 3))
    assert await layer.length(JOBS) == 2
    assert counters.expired == before + 3


async def test_a_channel_has_a_limit_in_bytes(redis_server: RedisServer) -> None:
    layer = WorkLayer(capacity_bytes=1_000_000)
    await layer.send_many(JOBS, numbered(50))  # small ones first: the size of later ones differs
    large = {"type": "job", "text": "x" * 100_000}
    sent = 0
    with pytest.raises(ChannelFull, match="1000000 bytes"):
        while sent < 20:
            await layer.send(JOBS, large)
            sent += 1
    assert 7 <= sent <= 9
    with redis_server.client() as client:
        assert client.memory_usage(redis_keys.queue(JOBS), samples=0) <= 1_000_000
    await layer.send_many(JOBS, [large], bulk=True)  # the bulk list has a limit of its own
    with pytest.raises(ChannelFull):
        await layer.send_many("other", [large] * 11)
    assert await layer.length("other") == 0
    taken = await layer.receive_many(JOBS, 100, 1)
    assert len(taken) == 50 + sent
    await layer.send(JOBS, large)


async def test_the_list_of_a_channel_expires_when_it_is_not_read(redis_server: RedisServer) -> None:
    await WorkLayer(expiry=3).send(JOBS, {"type": "job"})
    with redis_server.client() as client:
        assert 3_000 < client.pttl(redis_keys.queue(JOBS)) <= 63_000


@pytest.mark.parametrize(
    "garbage",
    [b"", b"x", b"99999999999990", b"9999999999999\xc1", b"9999999999999" + msgpack.packb([1]), b"\x00" * 40],
)
async def test_garbage_is_dropped_and_the_next_message_is_received(garbage: bytes, redis_server: RedisServer) -> None:
    layer = WorkLayer()
    with redis_server.client() as client:
        client.rpush(redis_keys.queue(JOBS), garbage)
    await layer.send(JOBS, {"type": "job"})
    assert await asyncio.wait_for(layer.receive(JOBS), 2) == {"type": "job"}


async def test_garbage_makes_space_in_a_full_channel(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.rpush(redis_keys.queue(JOBS), "x", "", "garbage")
    await WorkLayer(capacity=1).send(JOBS, {"type": "job"})


@pytest.mark.parametrize("name", ["", "ü", "a b", "a" * 100, 7])
async def test_an_invalid_channel_name_is_refused(name: str) -> None:
    with pytest.raises(TypeError):
        await WorkLayer().send(name, {"type": "job"})
    with pytest.raises(TypeError):
        await WorkLayer().receive(name)


async def test_a_message_that_cannot_be_packed_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        await WorkLayer().send(JOBS, {"type": object()})


async def test_flush_deletes_only_the_queues(redis_server: RedisServer) -> None:
    layer = WorkLayer()
    await layer.send_many(JOBS, numbered(3))
    with redis_server.client() as client:
        client.set("else", 1)
        await layer.flush()
        assert client.keys() == [b"else"]


async def test_channels_are_distributed_over_redis_hosts(new_redis: Callable[..., RedisServer]) -> None:
    servers = [new_redis(), new_redis()]
    layer = WorkLayer([server.url for server in servers])
    names = [f"jobs{n}" for n in range(20)]
    for name in names:
        await layer.send(name, {"type": name})
    used = []
    for server in servers:
        with server.client() as client:
            used.append(client.dbsize())
    assert sum(used) == 20
    assert all(used)
    assert [await layer.receive(name) for name in names] == [{"type": name} for name in names]
    await layer.send(JOBS, {"type": "job"})
    await layer.flush()
    assert await layer.length(JOBS) == 0
    await Bus.current([server.url for server in servers]).stop()


async def test_a_redis_without_free_memory_counts_as_a_full_channel(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis("--maxmemory", "100kb", "--maxmemory-policy", "noeviction")
    layer = WorkLayer([server.url])
    with pytest.raises(ChannelFull):
        await layer.send(JOBS, {"type": "job"})
    await Bus.current([server.url]).stop()


async def test_a_killed_redis_raises_and_is_used_after_its_restart(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    layer = WorkLayer([server.url])
    await layer.send(JOBS, {"type": "job"})
    server.kill()
    with pytest.raises((RedisError, OSError)):
        await layer.send(JOBS, {"type": "job"})
    with pytest.raises((RedisError, OSError)):
        await layer.receive_many(JOBS, 1, 1)
    server.start()
    await layer.send(JOBS, {"type": "job"})
    assert await layer.receive(JOBS) == {"type": "job"}
    await Bus.current([server.url]).stop()


async def test_a_frozen_redis_raises_in_time_and_is_used_after_it_thaws(
    new_redis: Callable[..., RedisServer],
) -> None:
    server = new_redis()
    layer = WorkLayer([server.url])
    await layer.send(JOBS, {"type": "job"})
    assert await layer.receive(JOBS) == {"type": "job"}
    server.freeze()
    loop = asyncio.get_running_loop()
    for attempt in (layer.send(JOBS, {"type": "job"}), layer.receive_many(JOBS, 1, 0.5), layer.length(JOBS)):
        began = loop.time()
        with pytest.raises((RedisError, OSError)):
            await attempt
        assert loop.time() - began < 5
    server.thaw()
    await layer.flush()
    await layer.send(JOBS, {"type": "job", "n": 1})
    assert {"type": "job", "n": 1} in await layer.receive_many(JOBS, 10, 1)
    await Bus.current([server.url]).stop()
