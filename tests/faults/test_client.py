"""The fault checker's clients record what they receive, tested with a scripted server."""

import asyncio
import random
from pathlib import Path

from tests.clients.test_aio import Frames, ScriptedServer, message, serving, welcome
from tests.faults.client import Client
from tests.faults.history import History, What, read


async def recorded_entries(scripted: ScriptedServer, folder: Path, what: str, count: int) -> list[tuple[str, int, str]]:
    """Return what a client has recorded of this kind, once there are `count` entries."""
    history = History(folder / "history.jsonl")
    async with serving(scripted), asyncio.timeout(15):
        url = scripted.url.replace("ws", "http", 1).partition("/ws/")[0]
        client = Client("alice", "lobby", url, history, random.Random(1))
        running = asyncio.create_task(client.run())
        entries: list[tuple[str, int, str]] = []
        while len(entries) < count:
            await asyncio.sleep(0.01)
            history.flush()
            entries = [(entry.id, entry.seq, entry.note) for entry in read(history.path) if entry.what == what]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    history.close()
    return entries


async def test_a_late_client_requests_all_events_from_the_first(tmp_path: Path) -> None:
    late: Frames = [welcome(2), message(2)]
    all_of_it: Frames = [welcome(2, resumed=True), message(1), message(2)]
    scripted = ScriptedServer((late, None), (all_of_it, None))
    received = await recorded_entries(scripted, tmp_path, What.HEARD, 2)
    assert [seq for _, seq, _ in received] == [1, 2]
    assert scripted.paths == ["/ws/chat/lobby/", "/ws/chat/lobby/?after=0"]


async def test_duplicates_and_gaps_are_recorded_as_received(tmp_path: Path) -> None:
    frames: Frames = [welcome(0), message(1), message(1), message(3)]
    received = await recorded_entries(ScriptedServer((frames, None)), tmp_path, What.HEARD, 3)
    assert [(id, seq) for id, seq, _ in received[:3]] == [("bob/bob-1", 1), ("bob/bob-1", 1), ("bob/bob-3", 3)]


async def test_a_new_epoch_is_recorded_as_broken(tmp_path: Path) -> None:
    scripted = ScriptedServer(([welcome(0), message(1)], 1012), ([welcome(1, epoch="e2"), message(1)], None))
    broken = await recorded_entries(scripted, tmp_path, What.BROKEN, 1)
    assert broken[0][2] == "the room is another one than before"
