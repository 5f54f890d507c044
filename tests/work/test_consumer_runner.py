"""Calling a consumer directly: its request for the next message means that the last one is handled."""

import asyncio
from typing import Any

import pytest
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.exceptions import StopConsumer

from channelbox.work.consumer_runner import ConsumerRunner


class Recorder(AsyncConsumer):
    channel_layer_alias = "none"
    instances: list["Recorder"] = []
    handled: list[Any] = []

    def __init__(self) -> None:
        self.instances.append(self)

    async def job(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        if message["n"] == "raise":
            raise ValueError("no good")
        if message["n"] == "cancelled":
            raise asyncio.CancelledError
        self.handled.append(message["n"])
        if message["n"] == "end":
            raise StopConsumer


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Recorder.instances, Recorder.handled = [], []


async def test_handle_returns_when_the_message_is_handled() -> None:
    runner = ConsumerRunner(Recorder.as_asgi(), "jobs")
    for n in range(3):
        await runner.handle({"type": "job", "n": n})
        assert Recorder.handled == list(range(n + 1))
    await runner.close()
    assert len(Recorder.instances) == 1
    assert Recorder.instances[0].scope == {"type": "channel", "channel": "jobs"}


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"type": "job", "n": "raise"}, ValueError),
        ({"type": "job", "n": "cancelled"}, RuntimeError),
        ({"type": "unheard.of"}, ValueError),
        ({"type": "_private"}, ValueError),
    ],
)
async def test_after_a_failure_the_next_message_goes_to_a_new_instance(
    bad: dict[str, Any], error: type[Exception]
) -> None:
    runner = ConsumerRunner(Recorder.as_asgi(), "jobs")
    await runner.handle({"type": "job", "n": 1})
    with pytest.raises(error):
        await runner.handle(bad)
    await runner.handle({"type": "job", "n": 2})
    await runner.close()
    assert Recorder.handled == [1, 2]
    assert len(Recorder.instances) == 2


async def test_a_message_whose_consumer_stops_itself_is_handled() -> None:
    runner = ConsumerRunner(Recorder.as_asgi(), "jobs")
    await runner.handle({"type": "job", "n": "end"})
    await runner.handle({"type": "job", "n": 1})
    await runner.close()
    assert Recorder.handled == ["end", 1]


async def test_a_consumer_that_never_receives_is_an_error_each_time() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        return

    runner = ConsumerRunner(application, "jobs")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="before it took a message"):
            await runner.handle({"type": "job"})


async def test_sending_from_a_worker_consumer_is_an_error() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "reply"})

    with pytest.raises(RuntimeError, match="no connection to send to"):
        await ConsumerRunner(application, "jobs").handle({"type": "job"})


async def test_close_cancels_a_consumer_that_is_working() -> None:
    ended = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    runner = ConsumerRunner(application, "jobs")
    handling = asyncio.create_task(runner.handle({"type": "job"}))
    await asyncio.sleep(0.01)
    await runner.close()
    with pytest.raises(RuntimeError, match="was cancelled"):
        await handling
    assert ended.is_set()


@pytest.mark.django_db(transaction=True)
async def test_a_sync_consumer_handles_messages_in_order() -> None:
    handled: list[int] = []

    class Sync(SyncConsumer):
        channel_layer_alias = "none"

        def job(self, message: dict[str, Any]) -> None:
            handled.append(message["n"])

    runner = ConsumerRunner(Sync.as_asgi(), "jobs")
    for n in range(3):
        await runner.handle({"type": "job", "n": n})
    await runner.close()
    assert handled == [0, 1, 2]
