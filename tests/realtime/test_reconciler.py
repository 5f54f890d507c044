"""A room that fell silent wrongly is found by comparing it with the record."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.support.servers import RedisServer

from channelbox.realtime import reconciler, redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.envelope import Envelope
from channelbox.realtime.frames import payloads, text_frame
from channelbox.realtime.history_source import Identity, Observed, Opened
from channelbox.realtime.hub import Hub
from channelbox.realtime.hub_room import Run
from channelbox.realtime.reconciler import Reconciler

IDENTITY = Identity(1, "epoch")


class Record:
    """Rooms that all have the same messages, 1 .. last. `fails` reads of the newest numbers fail first."""

    def __init__(self) -> None:
        self.last = 0
        self.fails = 0
        self.asked: list[list[str]] = []
        self.renewed: list[Identity] = []

    async def open(self, name: str) -> Opened:
        return Opened(IDENTITY, 1, Run(self.last + 1, self.last, b""))

    async def after(self, name: str, identity: Identity, seq: int, most: int) -> Run:
        last = min(self.last, seq + most)
        return Run(seq + 1, last, b"".join(text_frame(b"%d" % number) for number in range(seq + 1, last + 1)))

    async def observe(self, names: list[str]) -> dict[str, Observed]:
        self.asked.append(names)
        if self.fails:
            self.fails -= 1
            raise OSError("the record is away")
        return dict.fromkeys(names, Observed(IDENTITY, 1, self.last))

    async def renew(self, identity: Identity) -> None:
        self.renewed.append(identity)


class Listener:
    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.more = asyncio.Event()

    def restart(self) -> None:
        raise AssertionError("nobody is sent away here")

    def write_frames(self, frames: bytes) -> None:
        self.heard += [int(bytes(payload)) for _, payload in payloads(frames)]
        self.more.set()

    async def until(self, last: int) -> None:
        async with asyncio.timeout(10):
            while self.heard[-1:] != [last]:
                self.more.clear()
                await self.more.wait()


class Case:
    def __init__(self, hosts: list[str] | None = None) -> None:
        self.record = Record()
        self.bus = Bus(hosts)
        self.hub = Hub(self.bus, self.record, "process")
        self.reconciler = Reconciler(self.hub, self.record.observe, self.record.renew)

    async def enter(self, room: str) -> Listener:
        listener = Listener()
        await self.hub.join(room, IDENTITY, listener, None, 0, lambda hello: b"")
        return listener

    async def stop(self) -> None:
        await self.reconciler.stop()
        await self.hub.stop()
        await self.bus.stop()


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    case = Case()
    yield case
    await case.stop()


async def test_a_room_that_heard_nothing_of_a_message_gets_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "INTERVAL_SECONDS", 0.1)
    alice = await case.enter("r")
    case.record.last = 3  # stored, and its publish was lost
    await case.reconciler.start()
    await alice.until(3)
    assert alice.heard == [1, 2, 3]


async def test_a_room_that_is_up_to_date_is_left_alone(case: Case) -> None:
    alice = await case.enter("r")
    case.record.last = 2
    frames = text_frame(b"1") + text_frame(b"2")
    await case.bus.publish(redis_keys.room("r"), Envelope(1, 2, frames).pack())
    await alice.until(2)
    await case.reconciler.compare()
    assert case.hub.rooms["r"].repair is None
    assert alice.heard == [1, 2]


async def test_numbers_that_come_while_the_record_is_read_are_no_loss(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await case.enter("r")
    observe = case.record.observe

    async def overtaken(names: list[str]) -> dict[str, Observed]:
        observed = await observe(names)
        await case.bus.publish(redis_keys.room("r"), Envelope(1, 1, text_frame(b"1")).pack())
        await alice.until(1)
        return observed

    case.reconciler._observe = overtaken
    await case.reconciler.compare()
    assert "r" in case.hub.rooms
    assert not case.record.renewed


async def test_many_rooms_are_asked_for_in_parts(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "MAX_ROOMS_AT_ONCE", 2)
    members = [await case.enter(f"r{number}") for number in range(5)]
    case.record.last = 1
    await case.reconciler.compare()
    assert [len(names) for names in case.record.asked] == [2, 2, 1]
    for member in members:
        await member.until(1)


async def test_it_goes_on_after_the_record_has_failed(case: Case) -> None:
    alice = await case.enter("r")
    case.record.last, case.record.fails = 1, 1
    await case.reconciler.start()
    case.reconciler.now()
    await alice.until(1)
    assert len(case.record.asked) >= 2


async def test_what_was_published_while_redis_was_away_comes_when_it_is_back(
    new_redis: Callable[..., RedisServer],
) -> None:
    server = new_redis()
    case = Case([server.url])
    case.bus.on_restored(case.reconciler.now)
    alice = await case.enter("r")
    await case.reconciler.start()
    server.kill()
    case.record.last = 3
    server.start()
    await alice.until(3)
    assert alice.heard == [1, 2, 3]
    await case.stop()
