"""The reconciler finds rooms that missed publishes by comparing them with the database."""

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


class FakeStore:
    """A history source whose rooms all have the messages 1 to `last`. The next `failures` calls of `observe` fail."""

    def __init__(self) -> None:
        self.last = 0
        self.failures = 0
        self.compared: list[list[str]] = []
        self.renewed: list[Identity] = []

    async def open(self, name: str) -> Opened:
        return Opened(IDENTITY, 1, Run(self.last + 1, self.last, b""))

    async def after(self, name: str, identity: Identity, seq: int, most: int) -> Run:
        last = min(self.last, seq + most)
        return Run(seq + 1, last, b"".join(text_frame(b"%d" % number) for number in range(seq + 1, last + 1)))

    async def observe(self, names: list[str]) -> dict[str, Observed]:
        self.compared.append(names)
        if self.failures:
            self.failures -= 1
            raise OSError("the record is away")
        return dict.fromkeys(names, Observed(IDENTITY, 1, self.last))

    async def renew(self, identity: Identity) -> None:
        self.renewed.append(identity)


class Listener:
    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.received: list[int] = []
        self.received_more = asyncio.Event()

    def restart(self) -> None:
        raise AssertionError("no member is disconnected here")

    def write_frames(self, frames: bytes) -> None:
        self.received += [int(bytes(payload)) for _, payload in payloads(frames)]
        self.received_more.set()

    async def until(self, last: int) -> None:
        async with asyncio.timeout(10):
            while self.received[-1:] != [last]:
                self.received_more.clear()
                await self.received_more.wait()


class Case:
    def __init__(self, hosts: list[str] | None = None) -> None:
        self.store = FakeStore()
        self.bus = Bus(hosts)
        self.hub = Hub(self.bus, self.store, "process")
        self.reconciler = Reconciler(self.hub, self.store.observe, self.store.renew)

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


async def test_a_room_that_missed_a_publish_is_repaired(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "INTERVAL_SECONDS", 0.1)
    alice = await case.enter("r")
    case.store.last = 3  # stored, and its publish was lost
    await case.reconciler.start()
    await alice.until(3)
    assert alice.received == [1, 2, 3]


async def test_an_up_to_date_room_is_not_repaired(case: Case) -> None:
    alice = await case.enter("r")
    case.store.last = 2
    frames = text_frame(b"1") + text_frame(b"2")
    await case.bus.publish(redis_keys.room("r"), Envelope(1, 2, frames).pack())
    await alice.until(2)
    await case.reconciler.compare()
    assert case.hub.rooms["r"].repair is None
    assert alice.received == [1, 2]


async def test_events_received_during_a_comparison_do_not_reset_the_room(case: Case) -> None:
    alice = await case.enter("r")
    observe = case.store.observe

    async def observe_late(names: list[str]) -> dict[str, Observed]:
        observed = await observe(names)
        await case.bus.publish(redis_keys.room("r"), Envelope(1, 1, text_frame(b"1")).pack())
        await alice.until(1)
        return observed

    case.reconciler._observe = observe_late
    await case.reconciler.compare()
    assert "r" in case.hub.rooms
    assert not case.store.renewed


async def test_many_rooms_are_compared_in_batches(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "MAX_ROOMS_AT_ONCE", 2)
    members = [await case.enter(f"r{number}") for number in range(5)]
    case.store.last = 1
    await case.reconciler.compare()
    assert [len(names) for names in case.store.compared] == [2, 2, 1]
    for member in members:
        await member.until(1)


async def test_comparing_continues_after_a_database_error(case: Case) -> None:
    alice = await case.enter("r")
    case.store.last, case.store.failures = 1, 1
    await case.reconciler.start()
    case.reconciler.now()
    await alice.until(1)
    assert len(case.store.compared) >= 2


async def test_events_missed_in_a_redis_outage_are_read_after_it(
    new_redis: Callable[..., RedisServer],
) -> None:
    server = new_redis()
    case = Case([server.url])
    case.bus.on_restored(case.reconciler.now)
    alice = await case.enter("r")
    await case.reconciler.start()
    server.kill()
    case.store.last = 3
    server.start()
    await alice.until(3)
    assert alice.received == [1, 2, 3]
    await case.stop()
