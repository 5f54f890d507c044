"""What a delivery and a connect may cost, as counts: the hot path stays free of what each member would pay for.

`make bench` says how fast it is; seconds are no measure for a test.
"""

import asyncio
import collections
import concurrent.futures
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from channels.db import database_sync_to_async as in_database
from django.db.backends.utils import CursorWrapper
from django.test import Client
from tests.chat.process import Person, Workers, connections_go_back, installation, live, people, workers

from channelbox.accounts.models import User
from channelbox.chat.live import Live
from channelbox.chat.models import Room
from channelbox.realtime.envelope import RoomRef
from channelbox.realtime.record import Identity
from channelbox.work.message import Message

pytestmark = pytest.mark.django_db(transaction=True)

FEW, MANY = 2, 300
TRIES = 5  # something in the background may fall into one
CROWD = 60
FIXED = ("encodings", "queries", "threads")

Costs = collections.Counter[str]


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    """Counts what this process does meanwhile: turns of a thread, JSON encodings, queries, writes to Redis."""
    costs: Costs = collections.Counter()

    def count(owner: Any, name: str, what: str, besides: type | tuple[()] = ()) -> None:
        original = getattr(owner, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            costs[what] += not isinstance(args[0], besides)
            return original(*args, **kwargs)

        patch.setattr(owner, name, counting)

    with monkeypatch.context() as patch:
        count(concurrent.futures.ThreadPoolExecutor, "submit", "threads")
        count(json.JSONEncoder, "iterencode", "encodings")
        count(CursorWrapper, "execute", "queries")
        count(psycopg.Cursor, "execute", "queries", besides=psycopg.ClientCursor)  # those are below Django's
        count(CursorWrapper, "executemany", "queries")
        count(asyncio.StreamWriter, "writelines", "redis")
        yield costs


class Listener:
    """A member that keeps what is written to it, as it is."""

    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.more = asyncio.Event()

    def restart(self) -> None:
        raise AssertionError("nobody is sent away here")

    def write_frames(self, frames: bytes) -> None:
        self.written.append(frames)
        self.more.set()


async def message(live: Live, room: str, members: int, monkeypatch: pytest.MonkeyPatch) -> Costs:
    """The least that a message to so many cost, storing included."""
    listeners = [Listener() for _ in range(members)]
    found = await in_database(Room.objects.get)(name=room)
    ref, identity = RoomRef(found.pk, room), Identity(found.pk, found.full_epoch)
    for listener in listeners:
        await live.hub.join(room, identity, listener, None, 50, lambda hello: b"")
    cheapest: Costs | None = None
    for number in range(TRIES):
        for listener in listeners:
            listener.written.clear()
            listener.more.clear()
        with counted(monkeypatch) as costs:
            live.outbox.put(ref, Message("g:ann", None, "ann", f"{room}-{number}", "message", "hi", listeners[0]))
            async with asyncio.timeout(10):
                await listeners[-1].more.wait()
        frames = [listener.written for listener in listeners]
        assert all(len(written) == 1 and written[0] is frames[0][0] for written in frames), "one frame for everybody"
        if cheapest is None or costs.total() < cheapest.total():
            cheapest = costs
    assert cheapest is not None
    return cheapest


async def test_a_message_costs_the_same_for_few_and_for_many(
    live: Live, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_rooms("few", "many")
    few = await message(live, "few", FEW, monkeypatch)
    many = await message(live, "many", MANY, monkeypatch)
    assert {what: few[what] for what in FIXED} == {what: many[what] for what in FIXED}
    assert few["encodings"] == 1
    assert few["threads"] == 1
    assert max(few["redis"], many["redis"]) <= 4, "the batch to the queue, the publish, the worker's looks for more"


async def test_a_message_has_nobody_s_rights_looked_at(
    live: Live, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A room that somebody changed has: everybody in it is looked up. What storing changes is not that."""
    told: list[object] = []
    monkeypatch.setattr("channelbox.chat.revocation.told", lambda *words: told.append(words))
    await make_rooms("lobby")
    await message(live, "lobby", FEW, monkeypatch)
    assert told == []


async def test_a_crowd_that_comes_is_looked_up_together(
    live: Live, people: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_rooms("lobby")
    keys = await in_database(sessions)(CROWD)
    people += [Person("/ws/chat/lobby/", cookie=key) for key in keys]
    with counted(monkeypatch) as costs:
        welcomes = await asyncio.gather(*(person.connect() for person in people))
    assert {welcome["you"] for welcome in welcomes} == {f"member-{number}" for number in range(CROWD)}
    for what in ("queries", "threads", "redis"):
        assert costs[what] < CROWD / 2, f"{what}: {costs}"


@in_database
def make_rooms(*names: str) -> None:
    for name in names:
        Room.objects.create(name=name)


def sessions(count: int) -> list[str]:
    """The keys of as many people's sessions."""
    keys = []
    for number in range(count):
        client = Client()
        client.force_login(User.objects.create(username=f"member-{number}"))
        keys.append(str(client.session.session_key))
    return keys
