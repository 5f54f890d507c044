"""Rooms have no gap after a restart or failover of Redis; two hosts share the rooms; a late Redis is awaited."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.local import Installation, installation
from tests.integration.sending import HIGH_RATE, RECOVERY_SECONDS, local, sending, wait_for_more
from tests.support.servers import RedisServer, SentinelServer, free_port
from tests.support.waiting import until


@pytest.mark.parametrize("kept", [True, False], ids=["with its data", "empty"])
async def test_a_room_has_no_gap_after_a_redis_restart(
    kept: bool, tmp_path: Path, new_redis: Callable[..., RedisServer]
) -> None:
    redis = new_redis("--save", "3600 1" if kept else "")
    async with (
        installation(tmp_path, redis_url=redis.url, variables=HIGH_RATE) as local,
        await local.enter_at(local.web[0]) as alice,
        await local.enter_at(local.web[1]) as bob,
    ):
        async with sending(alice) as sent:
            await bob.wait_for("message 0")
            redis.stop() if kept else redis.kill()
            await asyncio.sleep(2)
            await asyncio.to_thread(redis.start)
            await wait_for_more(sent, 50)
        for person in (alice, bob):
            await person.wait_for(*sent, seconds=RECOVERY_SECONDS)
            assert person.texts == sent
            person.check_sequence()
        # New clients can join.
        async with await local.enter() as charlie:
            await charlie.say("all well")
            await bob.wait_for("all well")


async def test_a_room_has_no_gap_after_a_sentinel_failover(
    tmp_path: Path, new_redis: Callable[..., RedisServer]
) -> None:
    ports = [free_port(), free_port()]
    old = new_redis(port=ports[0])
    new_redis("--replicaof", "127.0.0.1", str(ports[0]), port=ports[1])
    sentinel = SentinelServer(tmp_path / "sentinel", "channelbox", ports[0])
    sentinel.start()
    try:
        with sentinel.client() as client:
            await until(lambda: bool(client.sentinel_slaves("channelbox")), 20)
        variables = {**HIGH_RATE, "CHANNELBOX_REDIS_SENTINELS": f"127.0.0.1:{sentinel.port}"}
        async with (
            installation(tmp_path, redis_url=old.url, variables=variables) as local,
            await local.enter_at(local.web[0]) as alice,
            await local.enter_at(local.web[1]) as bob,
        ):
            async with sending(alice, 0.1) as sent:
                await bob.wait_for("message 0")
                old.freeze()
                await wait_for_more(sent, 20)
            for person in (alice, bob):
                await person.wait_for(*sent, seconds=RECOVERY_SECONDS)
                assert person.texts == sent
                person.check_sequence()
    finally:
        old.thaw()
        sentinel.stop()


async def test_rooms_are_spread_over_two_redis_hosts(tmp_path: Path, new_redis: Callable[..., RedisServer]) -> None:
    servers = [new_redis(), new_redis()]
    rooms = [f"room{n}" for n in range(6)]
    async with installation(tmp_path, redis_url=",".join(server.url for server in servers)) as local:
        for room in rooms:
            async with (
                await local.enter_at(local.web[0], room) as alice,
                await local.enter_at(local.web[1], room) as bob,
            ):
                await alice.say(f"hello {room}")
                await bob.wait_for(f"hello {room}")
        for server in servers:
            with server.client() as client:
                assert client.info("commandstats")["cmdstat_publish"]["calls"] > 0


async def test_processes_started_before_redis_wait_for_it(
    tmp_path: Path, new_redis: Callable[..., RedisServer]
) -> None:
    redis = new_redis()
    redis.stop()
    log: list[str] = []
    local = Installation(tmp_path, lambda _, line: log.append(line), redis_url=redis.url)
    starting = asyncio.create_task(local.start())
    await until(lambda: any("chat.ingest does not respond" in line for line in log), 60)
    assert not starting.done()
    await asyncio.to_thread(redis.start)
    await starting
    async with await local.enter() as alice:
        await alice.say("at last")
        await alice.wait_for("at last")
    await local.stop()
