"""A backup is restored while clients have newer messages; they reconnect by themselves."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.local import Installation, installation

from channelbox_client.aio import Room
from channelbox_client.effects import Frame

RECONNECT_SECONDS = 40  # after the start, including the spread of reconnects


class Reader:
    """A client that stays in a room, and the messages on its screen."""

    def __init__(self, local: Installation) -> None:
        self.shown: list[tuple[int, str]] = []
        self.forget_count = 0
        url = local.url.replace("http://", "ws://") + "/ws/chat/hello/"
        self.room = Room(url, self._on_event, self._on_forget, proxy=None)

    def _on_event(self, event: Frame) -> None:
        self.shown.append((event["seq"], event["message"]))

    def _on_forget(self) -> None:
        self.forget_count += 1
        self.shown.clear()

    async def until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(RECONNECT_SECONDS):
                await self.room.until(condition)
        except TimeoutError:
            raise AssertionError(f"shown: {self.shown}; unanswered: {self.room.unanswered}") from None

    async def say(self, *texts: str) -> None:
        """Send messages, and wait until all are answered."""
        for text in texts:
            self.room.say(text)
        await self.until(lambda: not self.room.unanswered)

    async def shows(self, *texts: str) -> None:
        await self.until(lambda: [text for _, text in self.shown] == list(texts))


@asynccontextmanager
async def reading(local: Installation) -> AsyncIterator[Reader]:
    reader = Reader(local)
    task = asyncio.create_task(reader.room.run())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_clients_follow_a_restored_backup_and_continue(tmp_path: Path) -> None:
    """A message sent during the restore is stored once, behind the restored ones; later numbers are received."""
    async with (
        installation(tmp_path, redis_url=os.environ["CHANNELBOX_REDIS_URL"]) as local,
        reading(local) as alice,
        reading(local) as bob,
        reading(local) as charlie,
    ):
        await alice.say("one", "two")
        copy = await back_up(local)
        await alice.say("three", "four", "five")
        for each in (alice, bob, charlie):
            await each.shows("one", "two", "three", "four", "five")
        charlie.room.leave()  # as a browser that is closed
        await asyncio.gather(*(child.stop() for child in local.web + local.workers))
        bob.room.say("meanwhile")
        await restore(local, copy)
        await local.run("migrate")  # before every start, as the unit does
        await asyncio.gather(*(child.start() for child in local.web + local.workers))
        for each in (alice, bob):
            await each.shows("one", "two", "meanwhile")
        await alice.say("six", "seven", "eight")  # beyond the numbers that charlie has
        charlie.room.connect()
        async with reading(local) as newcomer:
            for each in (alice, bob, charlie, newcomer):
                await each.shows("one", "two", "meanwhile", "six", "seven", "eight")
                assert [seq for seq, _ in each.shown] == [1, 2, 3, 4, 5, 6]
            assert [each.forget_count for each in (alice, bob, charlie, newcomer)] == [1, 1, 1, 0]


async def back_up(local: Installation) -> Path:
    """Make a backup as docs/operate.md describes, and return its path."""
    if local.database_url.startswith("sqlite"):
        output = await local.run("backup")
        return Path(output.split()[0])
    dump = local.folder / "channelbox.dump"
    await postgresql("pg_dump", "--format=custom", f"--file={dump}", local.database_url)
    return dump


async def restore(local: Installation, copy: Path) -> None:
    if local.database_url.startswith("sqlite"):
        await local.run("restore", str(copy))
        return
    server = local.database_url.rpartition("/")[0]
    options = ("--clean", "--if-exists", "--create", "--exit-on-error")
    await postgresql("pg_restore", *options, f"--dbname={server}/postgres", str(copy))


async def postgresql(*command: str) -> None:
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
