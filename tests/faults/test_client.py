"""The fault checker's clients record what they receive, tested with a scripted server."""

import asyncio
import random
from pathlib import Path

from tests.clients.test_aio import Frames, Script, message, served, welcome
from tests.faults.client import Client
from tests.faults.history import History, What, read


async def noted(script: Script, folder: Path, what: str, count: int) -> list[tuple[str, int, str]]:
    """Return what a client has recorded of this kind, once there are `count` entries."""
    history = History(folder / "history.jsonl")
    async with served(script), asyncio.timeout(15):
        url = script.url.replace("ws", "http", 1).partition("/ws/")[0]
        client = Client("alice", "lobby", url, history, random.Random(1))
        running = asyncio.create_task(client.run())
        notes: list[tuple[str, int, str]] = []
        while len(notes) < count:
            await asyncio.sleep(0.01)
            history.flush()
            notes = [(entry.id, entry.seq, entry.note) for entry in read(history.path) if entry.what == what]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    history.close()
    return notes


async def test_who_comes_late_hears_everything_from_the_first_on(tmp_path: Path) -> None:
    late: Frames = [welcome(2), message(2)]
    all_of_it: Frames = [welcome(2, resumed=True), message(1), message(2)]
    script = Script((late, None), (all_of_it, None))
    heard = await noted(script, tmp_path, What.HEARD, 2)
    assert [seq for _, seq, _ in heard] == [1, 2]
    assert script.paths == ["/ws/chat/lobby/", "/ws/chat/lobby/?after=0"]


async def test_what_is_doubled_or_left_out_is_written_down_as_it_came(tmp_path: Path) -> None:
    frames: Frames = [welcome(0), message(1), message(1), message(3)]
    heard = await noted(Script((frames, None)), tmp_path, What.HEARD, 3)
    assert [(id, seq) for id, seq, _ in heard[:3]] == [("bob/bob-1", 1), ("bob/bob-1", 1), ("bob/bob-3", 3)]


async def test_a_room_that_is_another_one_is_broken(tmp_path: Path) -> None:
    script = Script(([welcome(0), message(1)], 1012), ([welcome(1, epoch="e2"), message(1)], None))
    broken = await noted(script, tmp_path, What.BROKEN, 1)
    assert broken[0][2] == "the room is another one than before"
