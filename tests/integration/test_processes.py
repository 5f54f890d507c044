"""Nothing is lost, doubled or left out when web processes and workers are killed, frozen or stopped."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.integration.local import Installation, installation
from tests.integration.talking import RECOVERY_SECONDS, RESENT_SECONDS, UNHURRIED, local, more, talking


async def test_people_at_different_web_processes_talk_through_a_worker(local: Installation) -> None:
    async with (
        await local.enter_at(local.web[0]) as alice,
        await local.enter_at(local.web[1]) as bob,
        await local.enter_at(local.web[1], "elsewhere") as charlie,
    ):
        await alice.say("hi")
        await bob.hears("hi")
        await bob.say("hello")
        await alice.hears("hello")
        await bob.hears("hello")
        assert alice.messages == bob.messages
        assert [message["seq"] for message in alice.messages] == [1, 2]
        assert charlie.messages == []


async def test_a_worker_that_is_killed_loses_nothing(local: Installation) -> None:
    async with await local.enter_at(local.web[0]) as alice, await local.enter_at(local.web[1]) as bob:
        async with talking(alice) as said:
            for _ in range(3):
                await more(said, 20)
                await local.kill(local.workers[0])
        for person in (alice, bob):
            await person.hears(*said, seconds=RECOVERY_SECONDS)
            assert person.heard == said
            person.check_sequence()
        assert alice.errors == []


async def test_two_of_three_workers_that_freeze_hold_up_what_they_had_taken_for_seconds(tmp_path: Path) -> None:
    """Both wait for messages, so Redis gives them some of the next ones, which nobody else has."""
    async with AsyncExitStack() as stack:
        options = {"redis_url": os.environ["CHANNELBOX_REDIS_URL"], "workers": 3, "variables": UNHURRIED}
        local = await stack.enter_async_context(installation(tmp_path, **options))
        people = [await stack.enter_async_context(await local.enter(f"room{n}")) for n in range(6)]
        for person in people:
            await person.say("before")
            await person.hears("before")
        frozen = local.workers[:2]
        for worker in frozen:
            worker.signal(signal.SIGSTOP)
        try:
            async with AsyncExitStack() as talks:
                said = [await talks.enter_async_context(talking(person, 0.1)) for person in people]
                async with asyncio.timeout(RESENT_SECONDS):
                    for person in people:
                        await person.hears("message 0")
                await more(said[0], 10)
            async with asyncio.timeout(RESENT_SECONDS):
                for person, texts in zip(people, said, strict=True):
                    await person.hears(*texts)
        finally:
            for worker in frozen:
                worker.signal(signal.SIGCONT)
        # They store what they had, which is stored already.
        for person, texts in zip(people, said, strict=True):
            await person.say("after")
            await person.hears("after")
            assert person.heard == ["before", *texts, "after"]
            person.check_sequence()
            assert person.errors == []


async def test_without_any_worker_messages_wait_and_nobody_is_told_anything_false(local: Installation) -> None:
    async with await local.enter() as alice:
        await alice.say("before")
        await alice.hears("before")
        await local.workers[0].stop()
        for n in range(5):
            await alice.say(f"{n}")
        # Longer than an entry of the queue lives, so that it is sent again.
        await asyncio.sleep(6)
        assert alice.heard == ["before"]
        assert alice.errors == []
        await local.workers[0].start()
        await alice.hears("4")
        assert alice.heard == ["before", "0", "1", "2", "3", "4"]


async def test_a_web_process_that_is_killed_takes_only_its_own_connections_with_it(local: Installation) -> None:
    async with await local.enter_at(local.web[0]) as alice, await local.enter_at(local.web[1]) as bob:
        async with talking(bob) as said:
            await alice.hears(*said[:1])
            await local.kill(local.web[0])
            assert await alice.closed() == 1006
            async with await local.enter_at(local.web[0], after=alice.seq) as again:
                await more(said, 20)
                await again.hears(said[-1])
                assert [m["seq"] for m in alice.messages + again.messages] == list(range(1, again.seq + 1))
        await bob.hears(*said)
        assert bob.heard == said


async def test_a_web_process_that_is_stopped_says_so_and_loses_nothing(local: Installation) -> None:
    async with await local.enter_at(local.web[0]) as alice, await local.enter_at(local.web[1]) as bob:
        for n in range(50):
            await alice.say(f"{n}")
        await bob.hears("0")
        status = asyncio.create_task(local.web[0].stop())
        assert await alice.closed() == 1012
        assert await status == 0
        await bob.hears("49")
        assert bob.heard == [f"{n}" for n in range(50)]
        # Its place is taken by the other one.
        async with await local.enter(after=0) as again:
            await again.hears("49")
            assert again.messages == bob.messages


async def test_a_web_process_that_is_stopped_waits_for_its_clients_goodbye(local: Installation) -> None:
    """To close at once would reset the connection of who is just sending, and take the code away with it."""
    reader, writer = await local.handshake("/ws/chat/hello/")
    stopped = [asyncio.create_task(child.stop()) for child in local.web]
    await asyncio.wait_for(reader.readuntil(b"\x88\x02" + (1012).to_bytes(2)), 10)
    writer.write(b"\x81\x8f\0\0\0\0" + b'{"type":"ping"}')
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.5)
    writer.write(b"\x88\x82\0\0\0\0" + (1012).to_bytes(2))
    assert await asyncio.wait_for(reader.read(), 1) == b""
    assert await asyncio.gather(*stopped) == [0, 0]


async def test_a_worker_that_is_stopped_ends_well(local: Installation) -> None:
    async with await local.enter() as alice, talking(alice) as said:
        await alice.hears(*said)
        assert await local.workers[0].stop() == 0
