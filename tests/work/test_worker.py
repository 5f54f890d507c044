"""The worker: messages are handled in order, one batch at a time, and a failure loses no later message."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.consumer import AsyncConsumer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter
from pytest_django import Settings
from tests.realtime.two_hosts import hosts_of
from tests.support.servers import RedisServer
from tests.support.waiting import until

from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.work import worker as worker_module
from channelbox.work.queue import WorkLayer
from channelbox.work.worker import BATCH, SLOW_SECONDS, Worker, consumer_class


@pytest.fixture(autouse=True)
async def _connections() -> AsyncIterator[None]:
    yield
    await Bus.current().stop()


class Notes:
    """The messages that a consumer was given, and a way to wait for more of them."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self._more = asyncio.Condition()

    async def put(self, item: Any) -> None:
        async with self._more:
            self.taken.append(item)
            self._more.notify_all()

    async def until(self, count: int) -> list[Any]:
        async with asyncio.timeout(15), self._more:
            await self._more.wait_for(lambda: len(self.taken) >= count)
        return self.taken


@asynccontextmanager
async def working(consumers: dict[str, type[AsyncConsumer]], layer: WorkLayer | None = None) -> AsyncIterator[Worker]:
    application = ChannelNameRouter({name: consumer.as_asgi() for name, consumer in consumers.items()})
    worker = Worker(application, list(consumers), layer or WorkLayer())
    task = asyncio.create_task(worker.serve())
    try:
        yield worker
    finally:
        if not worker.stopping:
            worker.stop()
        await asyncio.wait_for(task, 10)


def single(notes: Notes) -> type[AsyncConsumer]:
    class Single(AsyncConsumer):
        channel_layer_alias = "none"

        async def job(self, message: dict[str, Any]) -> None:
            await notes.put(message["n"])
            if message.get("raise"):
                raise ValueError("no good")

    return Single


def batching(notes: Notes, gate: asyncio.Event | None = None) -> type[AsyncConsumer]:
    class Batching(AsyncConsumer):
        channel_layer_alias = "none"
        batch = True

        async def dispatch(self, message: dict[str, Any]) -> None:
            if gate is not None:
                await gate.wait()
            await notes.put(message)
            if any(each.get("raise") for each in message["messages"]):
                raise ValueError("no good")

    return Batching


async def test_messages_are_handled_one_at_a_time_in_order() -> None:
    notes, layer = Notes(), WorkLayer()
    async with working({"jobs": single(notes)}):
        await layer.send_many("jobs", [{"type": "job", "n": n} for n in range(20)])
        assert await notes.until(20) == list(range(20))


async def test_the_bulk_list_is_handled_beside_the_other_list() -> None:
    few, much, layer, gate = Notes(), Notes(), WorkLayer(), asyncio.Event()

    class Both(AsyncConsumer):
        channel_layer_alias = "none"
        bulk = True

        async def few(self, message: dict[str, Any]) -> None:
            await few.put(message["n"])

        async def much(self, message: dict[str, Any]) -> None:
            await much.put(message["n"])
            await gate.wait()

    async with working({"jobs": Both}):
        await layer.send_many("jobs", [{"type": "much", "n": n} for n in range(3)], bulk=True)
        await much.until(1)
        await layer.send_many("jobs", [{"type": "few", "n": n} for n in range(3)])
        assert await few.until(3) == [0, 1, 2]
        assert await layer.length("jobs") == 2
        gate.set()
        assert await much.until(3) == [0, 1, 2]


async def test_slow_messages_delay_others_only_when_all_consumers_are_busy() -> None:
    notes, layer, gates = Notes(), WorkLayer(), [asyncio.Event() for _ in range(6)]

    class Slow(single(notes)):  # type: ignore[misc]
        in_hand = 2

        async def job(self, message: dict[str, Any]) -> None:
            await super().job(message)
            await gates[message["n"]].wait()

    async with working({"jobs": Slow}) as worker:
        for gate in gates[1:4]:
            gate.set()
        await layer.send_many("jobs", [{"type": "job", "n": n} for n in range(6)])
        assert await notes.until(5) == [0, 1, 2, 3, 4]  # while the first is handled
        await asyncio.sleep(SLOW_SECONDS * 2)  # longer than it would take to begin another one
        assert await layer.length("jobs") == 1
        gates[0].set()
        assert await notes.until(6) == [0, 1, 2, 3, 4, 5]
        worker.stop()
        gates[4].set()
        gates[5].set()


async def test_a_batch_consumer_gets_all_waiting_messages_at_once() -> None:
    notes, layer, gate = Notes(), WorkLayer(), asyncio.Event()
    before = counters.handled
    async with working({"jobs": batching(notes, gate)}):
        await layer.send("jobs", {"type": "job", "n": 0})

        async def taken() -> bool:
            return await layer.length("jobs") == 0

        await until(taken)
        await layer.send_many("jobs", [{"type": "job", "n": n} for n in range(1, BATCH + 21)])
        gate.set()
        batches = await notes.until(3)
    assert [len(batch["messages"]) for batch in batches] == [1, BATCH, 20]
    assert {(batch["type"], batch["channel"]) for batch in batches} == {("batch", "jobs")}
    assert [each["n"] for batch in batches for each in batch["messages"]] == list(range(BATCH + 21))
    assert counters.handled == before + BATCH + 21


async def test_no_message_is_taken_while_one_is_being_handled() -> None:
    notes, layer, gate = Notes(), WorkLayer(), asyncio.Event()

    class Slow(single(notes)):  # type: ignore[misc]
        async def job(self, message: dict[str, Any]) -> None:
            await super().job(message)
            await gate.wait()

    async with working({"jobs": Slow}):
        await layer.send_many("jobs", [{"type": "job", "n": n} for n in range(5)])
        await notes.until(1)
        assert await layer.length("jobs") == 4
        gate.set()
        await notes.until(5)


async def test_an_exception_in_a_consumer_loses_no_later_message(caplog: pytest.LogCaptureFixture) -> None:
    notes, layer = Notes(), WorkLayer()
    async with working({"jobs": single(notes), "batches": batching(notes)}):
        await layer.send_many("jobs", [{"type": "job", "n": n, "raise": n % 3 == 0} for n in range(10)])
        assert await notes.until(10) == list(range(10))
        await layer.send("batches", {"type": "job", "raise": True})
        await notes.until(11)
        await layer.send("batches", {"type": "job"})
        assert (await notes.until(12))[-1]["messages"] == [{"type": "job"}]
    failures = [record for record in caplog.records if record.exc_info]
    assert len(failures) == 5


async def test_garbage_and_unknown_types_do_not_stop_the_worker(redis_server: RedisServer) -> None:
    notes, layer = Notes(), WorkLayer()
    async with working({"jobs": single(notes)}):
        with redis_server.client() as client:
            client.rpush(redis_keys.queue("jobs"), b"garbage", b"9999999999999\xc1")
        await layer.send_many("jobs", [{"n": 1}, {"type": None}, {"type": 5}, {"type": "unheard.of"}, {"type": "_x"}])
        await layer.send("jobs", {"type": "job", "n": 2})
        assert await notes.until(1) == [2]


async def test_a_slow_channel_does_not_delay_another() -> None:
    slow, quick, layer, gate = Notes(), Notes(), WorkLayer(), asyncio.Event()
    async with working({"slow": batching(slow, gate), "quick": single(quick)}):
        await layer.send("slow", {"type": "job"})
        await layer.send_many("quick", [{"type": "job", "n": n} for n in range(10)])
        await quick.until(10)
        assert slow.taken == []
        gate.set()
        await slow.until(1)


async def test_a_stopping_worker_finishes_its_message_and_leaves_the_rest() -> None:
    notes, layer, gate = Notes(), WorkLayer(), asyncio.Event()

    class Slow(single(notes)):  # type: ignore[misc]
        async def job(self, message: dict[str, Any]) -> None:
            await super().job(message)
            await gate.wait()
            await notes.put("finished")

    async with working({"jobs": Slow}) as worker:
        await layer.send_many("jobs", [{"type": "job", "n": n} for n in range(3)])
        await notes.until(1)
        worker.stop()
        gate.set()
    assert notes.taken == [0, "finished"]
    assert await layer.length("jobs") == 2


async def test_an_idle_worker_stops_within_seconds() -> None:
    async with working({"jobs": single(Notes())}) as worker:
        await until(lambda: worker.ready)
        worker.stop()
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 5


async def test_a_worker_survives_a_redis_outage_and_logs_start_and_end(
    new_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = new_redis()
    notes, layer = Notes(), WorkLayer([server.url])
    caplog.set_level(logging.INFO, "channelbox.work")
    async with working({"jobs": single(notes)}, layer):
        await layer.send("jobs", {"type": "job", "n": 1})
        await notes.until(1)
        server.kill()
        await asyncio.sleep(3)
        server.start()
        await layer.send("jobs", {"type": "job", "n": 2})
        assert await notes.until(2) == [1, 2]
    messages = [record.getMessage() for record in caplog.records if "does not respond" in record.getMessage()]
    assert len(messages) == 2
    assert "; retrying: " in messages[0]
    assert "resolved after" in messages[1]
    await Bus.current([server.url]).stop()


async def test_a_worker_stops_within_seconds_while_redis_is_frozen(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    layer = WorkLayer([server.url])
    async with working({"jobs": single(Notes())}, layer) as worker:
        await until(lambda: worker.ready)
        server.freeze()
        worker.stop()
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 5
    server.thaw()
    await Bus.current([server.url]).stop()


async def test_a_channel_is_not_read_until_its_consumer_is_ready() -> None:
    notes, layer = Notes(), WorkLayer()
    attempts = 0

    class Later(single(notes)):  # type: ignore[misc]
        @classmethod
        async def ready(cls) -> None:
            nonlocal attempts
            attempts += 1
            if attempts < 3:
                raise OSError("the database is down")

    await layer.send("jobs", {"type": "job", "n": 1})
    async with working({"jobs": Later}):
        await notes.until(1)
    assert attempts == 3


async def test_lifespan_starts_before_the_first_and_ends_after_the_last_message() -> None:
    seen: list[Any] = []
    notes, layer = Notes(), WorkLayer()

    async def lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append(scope["channels"])
        seen.append((await receive())["type"])
        await send({"type": "lifespan.startup.complete"})
        seen.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})

    channels = ChannelNameRouter({"jobs": single(notes).as_asgi()})
    worker = Worker(ProtocolTypeRouter({"channel": channels, "lifespan": lifespan}), ["jobs"], layer)
    task = asyncio.create_task(worker.serve())
    await layer.send("jobs", {"type": "job", "n": 1})
    await notes.until(1)
    assert seen == [["jobs"], "lifespan.startup"]
    worker.stop()
    await asyncio.wait_for(task, 5)
    assert seen[-1] == "lifespan.shutdown"


@pytest.mark.parametrize("failure", ["reported", "raised"])
async def test_a_failed_application_startup_ends_the_worker(failure: str) -> None:
    async def lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        if failure == "raised":
            raise ValueError("no good")
        await send({"type": "lifespan.startup.failed", "message": "no good"})

    channels = ChannelNameRouter({"jobs": single(Notes()).as_asgi()})
    worker = Worker(ProtocolTypeRouter({"channel": channels, "lifespan": lifespan}), ["jobs"], WorkLayer())
    with pytest.raises(RuntimeError, match="no good" if failure == "reported" else "startup failed"):
        await worker.serve()


async def test_a_stuck_worker_sends_no_watchdog_notifications(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(worker_module, "notify", messages.append)
    monkeypatch.setattr(worker_module, "watchdog_seconds", lambda: 0.05)
    monkeypatch.setattr(worker_module, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(worker_module, "WAIT_SECONDS", 0.1)
    notes, layer, gate = Notes(), WorkLayer(), asyncio.Event()
    async with working({"jobs": batching(notes, gate), "idle": single(notes)}):
        await until(lambda: messages.count("WATCHDOG=1") >= 10)
        assert any(each.startswith("READY=1\n") for each in messages)
        await layer.send("jobs", {"type": "job"})
        await asyncio.sleep(0.6)
        before = messages.count("WATCHDOG=1")
        await asyncio.sleep(0.3)
        assert messages.count("WATCHDOG=1") == before
        gate.set()
        await until(lambda: messages.count("WATCHDOG=1") > before)


def test_an_error_about_an_unknown_channel_lists_the_known_ones() -> None:
    application = ProtocolTypeRouter({"channel": ChannelNameRouter({"jobs": single(Notes()).as_asgi()})})
    assert consumer_class(application, "jobs").__name__ == "Single"  # type: ignore[union-attr]
    with pytest.raises(LookupError, match=r"'nothing'.*jobs"):
        consumer_class(application, "nothing")


async def test_a_frozen_redis_host_does_not_stop_work_on_the_other(
    new_redis: Callable[..., RedisServer], settings: Settings
) -> None:
    servers = [new_redis(), new_redis()]
    settings.CHANNELBOX_REDIS_HOSTS = hosts_of(servers, 1)
    notes, layer = Notes(), WorkLayer()
    consumer = single(notes)
    consumer.every_host = True
    async with working({"jobs": consumer}, layer) as worker:
        for host in (0, 1):
            await layer.send_many("jobs", [{"type": "job", "n": host}], host)
        assert sorted(await notes.until(2)) == [0, 1]
        for host, frozen in enumerate(servers):
            frozen.freeze()
            before = len(notes.taken)
            await layer.send_many("jobs", [{"type": "job", "n": "other"}], 1 - host)
            assert (await notes.until(before + 1))[-1] == "other"
            frozen.thaw()
        assert worker.ready
