"""A copy of the database is put back under people who had more, and who come back by themselves."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.local import Installation, installation

from channelbox_client.aio import Room
from channelbox_client.effects import Frame

BACK_SECONDS = 40  # for a reconnect after the start, however late its turn


class Reader:
    """Somebody who stays in a room, and what is on their screen."""

    def __init__(self, local: Installation) -> None:
        self.shown: list[tuple[int, str]] = []
        self.forgot = 0
        url = local.url.replace("http://", "ws://") + "/ws/chat/hello/"
        self.room = Room(url, self._hear, self._forget, proxy=None)

    def _hear(self, event: Frame) -> None:
        self.shown.append((event["seq"], event["message"]))

    def _forget(self) -> None:
        self.forgot += 1
        self.shown.clear()

    async def until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(BACK_SECONDS):
                await self.room.until(condition)
        except TimeoutError:
            raise AssertionError(f"shown: {self.shown}; unanswered: {self.room.unanswered}") from None

    async def says(self, *texts: str) -> None:
        """Return when all have their answer."""
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


async def test_people_who_had_more_than_the_backup_show_what_it_has_and_go_on(tmp_path: Path) -> None:
    """Also what was said meanwhile is stored, once, behind the restored messages; and later numbers are heard."""
    async with (
        installation(tmp_path, redis_url=os.environ["CHANNELBOX_REDIS_URL"]) as local,
        reading(local) as alice,
        reading(local) as bob,
        reading(local) as charlie,
    ):
        await alice.says("one", "two")
        copy = await back_up(local)
        await alice.says("three", "four", "five")
        for each in (alice, bob, charlie):
            await each.shows("one", "two", "three", "four", "five")
        charlie.room.leave()  # as a browser that is closed in the evening
        await asyncio.gather(*(child.stop() for child in local.web + local.workers))
        bob.room.say("meanwhile")
        await restore(local, copy)
        await local.run("migrate")  # before every start, as the unit does
        await asyncio.gather(*(child.start() for child in local.web + local.workers))
        for each in (alice, bob):
            await each.shows("one", "two", "meanwhile")
        await alice.says("six", "seven", "eight")  # to beyond the numbers that charlie has
        charlie.room.connect()
        async with reading(local) as newcomer:
            for each in (alice, bob, charlie, newcomer):
                await each.shows("one", "two", "meanwhile", "six", "seven", "eight")
                assert [seq for seq, _ in each.shown] == [1, 2, 3, 4, 5, 6]
            assert [each.forgot for each in (alice, bob, charlie, newcomer)] == [1, 1, 1, 0]


async def back_up(local: Installation) -> Path:
    """Return a copy, made by the means that docs/operate.md names."""
    if local.database_url.startswith("sqlite"):
        told = await local.run("backup")
        return Path(told.split()[0])
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
