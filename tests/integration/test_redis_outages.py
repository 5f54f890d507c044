"""A room goes on without a gap when Redis is restarted, replaced, shared or late."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.local import Installation, installation
from tests.integration.talking import RECOVERY_SECONDS, UNHURRIED, local, more, talking
from tests.support.servers import RedisServer, SentinelServer, free_port
from tests.support.waiting import until


@pytest.mark.parametrize("kept", [True, False], ids=["with its data", "empty"])
async def test_a_room_goes_on_without_a_gap_when_redis_is_restarted(
    kept: bool, tmp_path: Path, new_redis: Callable[..., RedisServer]
) -> None:
    redis = new_redis("--save", "3600 1" if kept else "")
    async with (
        installation(tmp_path, redis_url=redis.url, variables=UNHURRIED) as local,
        await local.enter_at(local.web[0]) as alice,
        await local.enter_at(local.web[1]) as bob,
    ):
        async with talking(alice) as said:
            await bob.hears("message 0")
            redis.stop() if kept else redis.kill()
            await asyncio.sleep(2)
            await asyncio.to_thread(redis.start)
            await more(said, 50)
        for person in (alice, bob):
            await person.hears(*said, seconds=RECOVERY_SECONDS)
            assert person.heard == said
            person.check_sequence()
        # Who comes gets in.
        async with await local.enter() as charlie:
            await charlie.say("all well")
            await bob.hears("all well")


async def test_a_room_goes_on_without_a_gap_when_sentinel_replaces_a_frozen_master(
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
        variables = {**UNHURRIED, "CHANNELBOX_REDIS_SENTINELS": f"127.0.0.1:{sentinel.port}"}
        async with (
            installation(tmp_path, redis_url=old.url, variables=variables) as local,
            await local.enter_at(local.web[0]) as alice,
            await local.enter_at(local.web[1]) as bob,
        ):
            async with talking(alice, 0.1) as said:
                await bob.hears("message 0")
                old.freeze()
                await more(said, 20)
            for person in (alice, bob):
                await person.hears(*said, seconds=RECOVERY_SECONDS)
                assert person.heard == said
                person.check_sequence()
    finally:
        old.thaw()
        sentinel.stop()


async def test_two_redis_hosts_share_an_installation(tmp_path: Path, new_redis: Callable[..., RedisServer]) -> None:
    servers = [new_redis(), new_redis()]
    rooms = [f"room{n}" for n in range(6)]
    async with installation(tmp_path, redis_url=",".join(server.url for server in servers)) as local:
        for room in rooms:
            async with (
                await local.enter_at(local.web[0], room) as alice,
                await local.enter_at(local.web[1], room) as bob,
            ):
                await alice.say(f"hello {room}")
                await bob.hears(f"hello {room}")
        for server in servers:
            with server.client() as client:
                assert client.info("commandstats")["cmdstat_publish"]["calls"] > 0


async def test_processes_that_are_started_before_redis_wait_for_it(
    tmp_path: Path, new_redis: Callable[..., RedisServer]
) -> None:
    redis = new_redis()
    redis.stop()
    said: list[str] = []
    local = Installation(tmp_path, lambda _, line: said.append(line), redis_url=redis.url)
    starting = asyncio.create_task(local.start())
    await until(lambda: any("chat.ingest does not respond" in line for line in said), 60)
    assert not starting.done()
    await asyncio.to_thread(redis.start)
    await starting
    async with await local.enter() as alice:
        await alice.say("at last")
        await alice.hears("at last")
    await local.stop()
