"""No message is lost or duplicated when web processes and workers are killed, frozen or stopped."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.integration.local import Installation, installation
from tests.integration.sending import HIGH_RATE, RECOVERY_SECONDS, RESENT_SECONDS, local, sending, wait_for_more


async def test_clients_of_different_web_processes_share_a_room(local: Installation) -> None:
    async with (
        await local.enter_at(local.web[0]) as alice,
        await local.enter_at(local.web[1]) as bob,
        await local.enter_at(local.web[1], "elsewhere") as charlie,
    ):
        await alice.say("hi")
        await bob.wait_for("hi")
        await bob.say("hello")
        await alice.wait_for("hello")
        await bob.wait_for("hello")
        assert alice.messages == bob.messages
        assert [message["seq"] for message in alice.messages] == [1, 2]
        assert charlie.messages == []


async def test_killing_a_worker_loses_no_messages(local: Installation) -> None:
    async with await local.enter_at(local.web[0]) as alice, await local.enter_at(local.web[1]) as bob:
        async with sending(alice) as sent:
            for _ in range(3):
                await wait_for_more(sent, 20)
                await local.kill(local.workers[0])
        for person in (alice, bob):
            await person.wait_for(*sent, seconds=RECOVERY_SECONDS)
            assert person.texts == sent
            person.check_sequence()
        assert alice.errors == []


async def test_batches_taken_by_frozen_workers_are_stored_by_another(tmp_path: Path) -> None:
    """Both wait for the queue, so Redis hands them some of the next batches, which no other worker has."""
    async with AsyncExitStack() as stack:
        options = {"redis_url": os.environ["CHANNELBOX_REDIS_URL"], "workers": 3, "variables": HIGH_RATE}
        local = await stack.enter_async_context(installation(tmp_path, **options))
        people = [await stack.enter_async_context(await local.enter(f"room{n}")) for n in range(6)]
        for person in people:
            await person.say("before")
            await person.wait_for("before")
        frozen = local.workers[:2]
        for worker in frozen:
            worker.signal(signal.SIGSTOP)
        try:
            async with AsyncExitStack() as senders:
                sent = [await senders.enter_async_context(sending(person, 0.1)) for person in people]
                async with asyncio.timeout(RESENT_SECONDS):
                    for person in people:
                        await person.wait_for("message 0")
                await wait_for_more(sent[0], 10)
            async with asyncio.timeout(RESENT_SECONDS):
                for person, texts in zip(people, sent, strict=True):
                    await person.wait_for(*texts)
        finally:
            for worker in frozen:
                worker.signal(signal.SIGCONT)
        # They now store the batches that they had taken, which are already stored.
        for person, texts in zip(people, sent, strict=True):
            await person.say("after")
            await person.wait_for("after")
            assert person.texts == ["before", *texts, "after"]
            person.check_sequence()
            assert person.errors == []


async def test_messages_wait_without_errors_while_no_worker_runs(local: Installation) -> None:
    async with await local.enter() as alice:
        await alice.say("before")
        await alice.wait_for("before")
        await local.workers[0].stop()
        for n in range(5):
            await alice.say(f"{n}")
        # Longer than an entry of the queue lives, so that the batch is sent again.
        await asyncio.sleep(6)
        assert alice.texts == ["before"]
        assert alice.errors == []
        await local.workers[0].start()
        await alice.wait_for("4")
        assert alice.texts == ["before", "0", "1", "2", "3", "4"]


async def test_killing_a_web_process_ends_only_its_own_connections(local: Installation) -> None:
    async with await local.enter_at(local.web[0]) as alice, await local.enter_at(local.web[1]) as bob:
        async with sending(bob) as sent:
            await alice.wait_for(*sent[:1])
            await local.kill(local.web[0])
            assert await alice.closed() == 1006
            async with await local.enter_at(local.web[0], after=alice.seq) as again:
                await wait_for_more(sent, 20)
                await again.wait_for(sent[-1])
                assert [m["seq"] for m in alice.messages + again.messages] == list(range(1, again.seq + 1))
        await bob.wait_for(*sent)
        assert bob.texts == sent


async def test_stopping_a_web_process_sends_1012_and_loses_nothing(local: Installation) -> None:
    async with await local.enter_at(local.web[0]) as alice, await local.enter_at(local.web[1]) as bob:
        for n in range(50):
            await alice.say(f"{n}")
        await bob.wait_for("0")
        status = asyncio.create_task(local.web[0].stop())
        assert await alice.closed() == 1012
        assert await status == 0
        await bob.wait_for("49")
        assert bob.texts == [f"{n}" for n in range(50)]
        # The other web process takes its connections.
        async with await local.enter(after=0) as again:
            await again.wait_for("49")
            assert again.messages == bob.messages


async def test_a_stopping_web_process_waits_for_the_clients_close_frame(local: Installation) -> None:
    """Closing at once would reset the connection of a client that is sending, and lose the close code."""
    reader, writer = await local.handshake("/ws/chat/hello/")
    stopped = [asyncio.create_task(child.stop()) for child in local.web]
    await asyncio.wait_for(reader.readuntil(b"\x88\x02" + (1012).to_bytes(2)), 10)
    writer.write(b"\x81\x8f\0\0\0\0" + b'{"type":"ping"}')
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.5)
    writer.write(b"\x88\x82\0\0\0\0" + (1012).to_bytes(2))
    assert await asyncio.wait_for(reader.read(), 1) == b""
    assert await asyncio.gather(*stopped) == [0, 0]


async def test_a_stopped_worker_exits_with_status_0(local: Installation) -> None:
    async with await local.enter() as alice, sending(alice) as sent:
        await wait_for_more(sent, 1)
        await alice.wait_for(*sent)
        assert await local.workers[0].stop() == 0
