"""Presence over real Redis: each Presence object stands for a process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest
from tests.realtime.presence_process import Process
from tests.realtime.two_hosts import hosts_of, one_of_each
from tests.support.servers import RedisServer
from tests.support.waiting import until

from channelbox.realtime import presence, redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.presence_state import Part, checked


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "PUBLISH_SECONDS", 0.1)
    monkeypatch.setattr(presence, "COMPARE_SECONDS", 0.5)
    monkeypatch.setattr(presence, "FRESH_SECONDS", 1.0)


@pytest.fixture
async def processes() -> AsyncIterator[list[Process]]:
    processes = [Process("one"), Process("two")]
    for process in processes:
        await process.start()
    yield processes
    for process in processes:
        await process.stop()


async def test_presence_includes_people_of_other_processes(processes: list[Process]) -> None:
    one, two = processes
    await one.enter("alice")
    await two.enter("bob")
    await one.watcher.until("alice", "bob")
    await two.watcher.until("alice", "bob")
    two.presence.left("r", "bob")
    await one.watcher.until("alice")


@pytest.mark.parametrize("part", ["_write_frame", "_publish", "_read"])
async def test_unexpected_errors_are_counted_and_presence_is_still_sent(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Otherwise the count would be wrong until another person joins or leaves."""
    one, two = processes
    await one.enter("alice")
    await two.enter("bob")
    await one.watcher.until("alice", "bob")
    original = getattr(one.presence, part)
    left = 1

    def fail_once(*arguments: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise RuntimeError("nobody expected this")
        return original(*arguments)

    restarted = counters.restarted
    monkeypatch.setattr(one.presence, part, fail_once)
    one.presence.joined("r", "charlie")
    await one.watcher.until("alice", "bob", "charlie")
    await two.watcher.until("alice", "bob", "charlie")
    await until(lambda: counters.restarted > restarted)


async def test_two_tabs_are_one_person_until_both_are_closed(processes: list[Process]) -> None:
    one, _ = processes
    await one.enter("alice", "alice", "bob")
    await one.watcher.until("alice", "bob")
    one.presence.left("r", "alice")
    one.presence.left("r", "bob")
    await one.watcher.until("alice")


async def test_changes_in_one_interval_are_sent_together(processes: list[Process]) -> None:
    one, _ = processes
    await one.enter(*(f"p{number:02}" for number in range(50)))
    await one.watcher.until(*(f"p{number:02}" for number in range(50)))
    assert one.watcher.count <= 2


async def test_above_a_hundred_people_only_the_count_is_sent(processes: list[Process]) -> None:
    one, two = processes
    await one.enter(*(f"a{number}" for number in range(60)))
    await two.enter(*(f"b{number}" for number in range(60)))
    async with asyncio.timeout(15):
        while one.watcher.newest != {"type": "presence", "count": 120}:
            await asyncio.sleep(0.05)


async def test_people_of_a_dead_process_are_removed(
    processes: list[Process],
) -> None:
    one, _ = processes
    await one.enter("alice")
    dead = Process("dead")
    await dead.start()
    await dead.enter("bob")
    await one.watcher.until("alice", "bob")
    await dead.freeze()
    await one.watcher.until("alice")
    await dead.hub.stop()
    await dead.bus.stop()


async def test_stopping_a_process_removes_its_people(processes: list[Process]) -> None:
    one, _ = processes
    await one.enter("alice")
    other = Process("other")
    await other.start()
    await other.enter("bob")
    await one.watcher.until("alice", "bob")
    await other.stop()
    await one.watcher.until("alice")


@pytest.mark.parametrize("gone", [0, 1])
async def test_presence_works_while_the_redis_of_other_rooms_is_frozen(
    new_redis: Callable[..., RedisServer], gone: int
) -> None:
    servers = [new_redis(), new_redis()]
    one, two = (Process(name, hosts_of(servers, 9)) for name in ("one", "two"))
    rooms = one_of_each(one.bus)
    for process in (one, two):
        await process.start()
        await process.enter(process.hub._process, room=rooms[1 - gone])
    one.presence.joined(rooms[gone], "alice")
    await one.watcher.until("one", "two")
    servers[gone].freeze()
    one.presence.joined(rooms[gone], "bob")  # cannot be published now
    two.presence.left(rooms[1 - gone], "two")
    async with asyncio.timeout(6):
        await one.watcher.until("one")
    servers[gone].thaw()
    for process in (one, two):
        await process.stop()


# --- Data loss in Redis


@pytest.fixture
async def three(processes: list[Process]) -> AsyncIterator[list[Process]]:
    """Return three processes with two people each; all have received the presence of all six people."""
    third = Process("three")
    await third.start()
    three = [*processes, third]
    for process in three:
        await process.enter(f"{process.name}-a", f"{process.name}-b")
    for process in three:
        await process.watcher.until(*people_of(three))
    yield three
    await third.stop()


def people_of(processes: list[Process]) -> list[str]:
    return [f"{process.name}-{letter}" for process in processes for letter in "ab"]


@pytest.mark.parametrize("loss", ["everything", "the room", "a part"])
async def test_presence_survives_data_loss_in_redis(three: list[Process], bus: Bus, loss: str) -> None:
    client = bus.client("")
    if loss == "everything":
        await client.flushall()
    elif loss == "the room":
        await client.delete(redis_keys.people("r"))
    else:
        await client.hdel(redis_keys.people("r"), "one")
    newcomer = Process("new")
    await newcomer.start()
    await newcomer.enter("new-a", "new-b")
    for process in [*three, newcomer]:
        await process.watcher.until(*people_of([*three, newcomer]))
    # Wait until every process has compared again: the presence must stay complete.
    for process in three:
        compared = process.presence._hosts[0].compare_at
        await until(lambda process=process, at=compared: process.presence._hosts[0].compare_at > at + 1)
    for process in [*three, newcomer]:
        await process.watcher.until(*people_of([*three, newcomer]))
    await newcomer.stop()


async def test_the_count_does_not_drop_after_a_redis_flush(three: list[Process], bus: Bus) -> None:
    before = [len(process.watcher.counts) for process in three]
    await bus.client("").flushall()
    for process in three:
        compared = process.presence._hosts[0].compare_at
        await until(lambda process=process, at=compared: process.presence._hosts[0].compare_at > at + 1)
    for process, count in zip(three, before, strict=True):
        assert min([6, *process.watcher.counts[count:]]) == 6


async def test_people_of_a_frozen_process_return_when_it_resumes(three: list[Process]) -> None:
    one, two, frozen = three
    await frozen.freeze()
    for process in (one, two):
        await process.watcher.until(*people_of([one, two]))
    await frozen.slots.start()
    await frozen.presence.start()
    for process in three:
        await process.watcher.until(*people_of(three))


async def test_presence_recovers_after_redis_was_out_of_memory(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    one, two = (Process(name, hosts_of([server], 9)) for name in ("one", "two"))
    for process in (one, two):
        await process.start()
        await process.enter(f"{process.name}-a", f"{process.name}-b")
    for process in (one, two):
        await process.watcher.until(*people_of([one, two]))
    with server.client() as client:
        client.config_set("maxmemory", 1)
        two.presence.left("r", "two-a")
        two.presence.joined("r", "x" * 200)
        await one.watcher.until("one-a", "one-b", "two-b", "x" * 200)  # published, though not written
        client.config_set("maxmemory", 0)
    newcomer = Process("new", hosts_of([server], 9))
    await newcomer.start()
    await newcomer.enter("new")
    for process in (one, two, newcomer):
        await process.watcher.until("one-a", "one-b", "two-b", "x" * 200, "new")
    for process in (one, two, newcomer):
        await process.stop()


async def test_members_see_people_of_their_own_process_without_redis(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    one = Process("one", hosts_of([server], 9))
    await one.start()
    await one.enter("one-a")
    await one.watcher.until("one-a")
    server.kill()
    one.presence.joined("r", "one-b")
    await one.watcher.until("one-a", "one-b")
    server.start()
    await one.stop()


async def test_invalid_presence_data_is_ignored(
    three: list[Process], bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, *_ = three
    checked_data: list[tuple[Any, Any]] = []

    def record_checked(names: Any, count: Any) -> Part:
        checked_data.append((names, count))
        return checked(names, count)

    monkeypatch.setattr(presence, "checked", record_checked)
    client = bus.client("")
    before = len(one.watcher.counts)
    parts = [b"\xc1", b"", *map(msgpack.packb, (5, ["a", 1, 2], ["a", "b"]))]
    for number, part in enumerate(parts):
        await client.hset(redis_keys.people("r"), f"rubbish-{number}", part)
    for content in ((1, 2), ("p", "alice", 1), ("p", ["alice"], "1"), ("p", ["alice"], -1), ("p", [1], 1)):
        await bus.publish(redis_keys.room("r"), msgpack.packb({"v": 1, "presence": content}))
    one.presence.left("r", "one-b")
    for process in three:
        await process.watcher.until(*(name for name in people_of(three) if name != "one-b"))
    assert one.watcher.counts[before:] == [5]
    for invalid in (("alice", 1), (["alice"], -1), ([1], 1)):
        assert checked_data.count(invalid) == len(three), "by each process"


async def test_stopping_does_not_wait_for_a_frozen_redis(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    one = Process("one", hosts_of([server], 60))
    await one.start()
    await one.enter("alice")
    await one.watcher.until("alice")
    server.freeze()
    async with asyncio.timeout(20):
        await one.stop()
    server.thaw()
