"""Costs of a delivery and of a connect, as counts: the hot path has no work that grows with the number of members.

`make bench` measures speed; these tests do not, because seconds depend on the machine.
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
from tests.chat.many_messages import insert_messages
from tests.chat.process import Person, Workers, installation, people, return_connections, runtime, workers

from channelbox.accounts.models import User
from channelbox.chat.models import Room
from channelbox.chat.runtime import ChatRuntime
from channelbox.chat.store import store
from channelbox.realtime.envelope import IncomingEvent, RoomRef
from channelbox.realtime.frames import payloads
from channelbox.realtime.history_source import Identity
from channelbox.work.pending_message import PendingMessage

pytestmark = pytest.mark.django_db(transaction=True)

FEW, MANY = 2, 300
TRIES = 5  # background work may add to the costs of one
CROWD = 60
FIXED = ("encodings", "queries", "threads")

Costs = collections.Counter[str]


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    """Count what this process does in the block: calls in threads, JSON encodings, queries, writes to Redis."""
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
        count(psycopg.Cursor, "execute", "queries", besides=psycopg.ClientCursor)  # Django's, counted above
        count(CursorWrapper, "executemany", "queries")
        count(asyncio.StreamWriter, "writelines", "redis")
        yield costs


class Listener:
    """A member that keeps what is written to it."""

    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.more = asyncio.Event()

    def restart(self) -> None:
        raise AssertionError("no member is restarted in this test")

    def write_frames(self, frames: bytes) -> None:
        self.written.append(frames)
        self.more.set()

    def written_with(self, id: str) -> list[bytes]:
        """Return what contains the event with this id. Other frames (presence) may come at any time."""
        return [frames for frames in self.written if id.encode() in frames]


async def message_costs(runtime: ChatRuntime, room: str, members: int, monkeypatch: pytest.MonkeyPatch) -> Costs:
    """Return the lowest costs of several messages to so many members, storing included."""
    listeners = [Listener() for _ in range(members)]
    found = await in_database(Room.objects.get)(name=room)
    ref, identity = RoomRef(found.pk, room), Identity(found.pk, found.full_epoch)
    for listener in listeners:
        await runtime.hub.join(room, identity, listener, None, 50, lambda hello: b"")
    cheapest: Costs | None = None
    for number in range(TRIES):
        for listener in listeners:
            listener.written.clear()
        id = f"{room}-{number}"
        with counted(monkeypatch) as costs:
            runtime.outbox.put(
                ref, PendingMessage(IncomingEvent("g:alice", None, "alice", id, "message", "hi"), listeners[0])
            )
            async with asyncio.timeout(30):
                while not (of_the_last := listeners[-1].written_with(id)):
                    listeners[-1].more.clear()
                    await listeners[-1].more.wait()
        frames = [listener.written_with(id) for listener in listeners]
        assert all(len(written) == 1 and written[0] is of_the_last[0] for written in frames), "one frame for everybody"
        if cheapest is None or costs.total() < cheapest.total():
            cheapest = costs
    assert cheapest is not None
    return cheapest


async def test_message_costs_do_not_depend_on_the_number_of_members(
    runtime: ChatRuntime, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_rooms("few", "many")
    few = await message_costs(runtime, "few", FEW, monkeypatch)
    many = await message_costs(runtime, "many", MANY, monkeypatch)
    assert {what: few[what] for what in FIXED} == {what: many[what] for what in FIXED}
    assert few["encodings"] == 1
    assert few["threads"] == 1
    assert max(few["redis"], many["redis"]) <= 4, "the batch to the queue, the publish, the worker's next reads"


async def test_storing_a_message_does_not_recheck_permissions(
    runtime: ChatRuntime, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed room has everybody in it rechecked; the update of its last number must not count as such a change."""
    notices: list[object] = []
    monkeypatch.setattr("channelbox.chat.revocation.notify_after_commit", lambda *args: notices.append(args))
    await make_rooms("lobby")
    await message_costs(runtime, "lobby", FEW, monkeypatch)
    assert notices == []


async def test_concurrent_joins_share_their_look_ups(
    runtime: ChatRuntime, people: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_rooms("lobby")
    keys = await in_database(sessions)(CROWD)
    people += [Person("/ws/chat/lobby/", cookie=key) for key in keys]
    with counted(monkeypatch) as costs:
        welcomes = await asyncio.gather(*(person.connect() for person in people))
    assert {welcome["you"] for welcome in welcomes} == {f"member-{number}" for number in range(CROWD)}
    for what in ("queries", "threads", "redis"):
        assert costs[what] < CROWD / 2, f"{what}: {costs}"


async def test_concurrent_catch_ups_share_their_reads(runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replay buffer does not reach back that far, and the last number of each client differs."""
    await make_rooms("lobby")
    room = await in_database(Room.objects.get)()
    await in_database(insert_messages)(room, 1000)
    identity = Identity(room.pk, room.full_epoch)
    crowd = {300 + number: Listener() for number in range(CROWD)}
    first = Listener()
    await runtime.hub.join("lobby", identity, first, None, 50, lambda hello: b"")
    with counted(monkeypatch) as costs:
        joins = (
            runtime.hub.join("lobby", identity, each, after, 50, lambda hello: b"") for after, each in crowd.items()
        )
        await asyncio.gather(*joins)
    for after, listener in crowd.items():
        received = [json.loads(bytes(payload))["seq"] for _, payload in payloads(b"".join(listener.written))]
        assert received == list(range(after + 1, 1001))
    # Three pages up to the replay buffer, and one more for the first client, which does not wait for the others.
    assert costs["threads"] < CROWD / 4, costs
    for listener in (first, *crowd.values()):
        runtime.hub.leave("lobby", listener)


async def test_events_that_the_hub_has_missed_are_read_once(
    runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process has not received the newest events: it alone was cut off from Redis."""
    await make_rooms("lobby")
    room = await in_database(Room.objects.get)()
    identity = Identity(room.pk, room.full_epoch)
    first, crowd = Listener(), [Listener() for _ in range(CROWD)]
    await runtime.hub.join("lobby", identity, first, None, 50, lambda hello: b"")
    await in_database(insert_messages)(room, 20)
    with counted(monkeypatch) as costs:
        await asyncio.gather(
            *(runtime.hub.join("lobby", identity, each, 20, 50, lambda hello: b"") for each in crowd),
        )
    received = [json.loads(bytes(payload))["seq"] for _, payload in payloads(b"".join(first.written))]
    assert received == list(range(1, 21)), "members get the missing events once"
    assert costs["threads"] < CROWD / 4, costs
    for listener in (first, *crowd):
        runtime.hub.leave("lobby", listener)


async def test_opening_a_room_takes_two_queries_in_one_thread_call(
    runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Costs] = []
    for room in await rooms_with_messages(TRIES):
        with counted(monkeypatch) as costs:
            assert numbers(await enter(runtime, room)) == [1, 2, 3]
        found.append(costs)
    cheapest = min(found, key=Costs.total)
    assert (cheapest["queries"], cheapest["threads"]) == (2, 1)


async def test_rooms_joined_concurrently_are_opened_together(
    runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = await rooms_with_messages(CROWD)
    with counted(monkeypatch) as costs:
        listeners = await asyncio.gather(*(enter(runtime, room) for room in rooms))
    assert all(numbers(listener) == [1, 2, 3] for listener in listeners)
    for what in ("queries", "threads"):
        assert costs[what] < CROWD / 2, f"{what}: {costs}"


async def test_events_missed_in_many_rooms_are_read_together(
    runtime: ChatRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process was cut off from Redis: the database has newer events of every room."""
    rooms = await rooms_with_messages(CROWD)
    listeners = [await enter(runtime, room) for room in rooms]
    await in_database(store_unpublished)()
    with counted(monkeypatch) as costs:
        await runtime.reconciler.compare()
        async with asyncio.timeout(10):
            for listener in listeners:
                while numbers(listener)[-1] < 4:
                    listener.more.clear()
                    await listener.more.wait()
    assert all(numbers(listener) == [1, 2, 3, 4] for listener in listeners)
    for what in ("queries", "threads"):
        assert costs[what] < CROWD / 2, f"{what}: {costs}"


async def enter(runtime: ChatRuntime, room: Room) -> Listener:
    listener = Listener()
    await runtime.hub.join(room.name, Identity(room.pk, room.full_epoch), listener, None, 50, lambda hello: b"")
    return listener


def numbers(listener: Listener) -> list[int]:
    """Return the numbers of the messages that were written to it, in order."""
    received = [json.loads(bytes(payload)) for _, payload in payloads(b"".join(listener.written))]
    return [event["seq"] for event in received if event["type"] == "message"]


@in_database
def rooms_with_messages(count: int) -> list[Room]:
    """Create rooms with three messages each."""
    rooms = [Room.objects.create(name=f"room-{number}") for number in range(count)]
    for room in rooms:
        insert_messages(room, 3)
    return list(Room.objects.all())


@in_database
def make_rooms(*names: str) -> None:
    for name in names:
        Room.objects.create(name=name)


def store_unpublished() -> None:
    """Store a fourth message in each room without publishing it."""
    rooms = {
        RoomRef(room.pk, room.name): [IncomingEvent("g:bob", None, "bob", "4", "message", "hi")]
        for room in Room.objects.all()
    }
    assert all(outcome.stored for outcome in store(rooms).outcomes.values())


def sessions(count: int) -> list[str]:
    """Create so many users with a session each. Returns the keys of the sessions."""
    keys = []
    for number in range(count):
        client = Client()
        client.force_login(User.objects.create(username=f"member-{number}"))
        keys.append(str(client.session.session_key))
    return keys
