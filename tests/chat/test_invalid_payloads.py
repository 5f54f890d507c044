"""Payloads that channelbox did not publish are ignored on every pub/sub channel of a process."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from typing import cast

import msgpack
import pytest
from channels.layers import get_channel_layer
from tests.chat.process import Workers, enter, installation, people, return_connections, runtime, workers

from channelbox.dashboard.broadcaster import Broadcaster
from channelbox.logs import Repeats
from channelbox.realtime import redis_keys, subscription_session
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters

pytestmark = pytest.mark.django_db(transaction=True)

INVALID_MSGPACK = [b"", b"\xc1", b"\xff" * 9, b"hello", b"\x00!", b"room 1", bytes(100_000), b"\xdd\xff\xff\xff\xff"]
VALUES: list[object] = [
    None,
    True,
    -1,
    5,
    2**63,
    0.5,
    float("nan"),
    b"b",
    "alice",
    [],
    [1, [2]],
    {},
    {"a": [None]},
    {1: 2},
]


def valid_msgpack(chance: random.Random) -> list[bytes]:
    """Return valid msgpack that is no payload of channelbox."""
    lists = [[chance.choice(VALUES) for _ in range(length)] for length in range(9) for _ in range(20)]
    return [msgpack.packb(value) for value in [*VALUES, *lists, *envelopes()]]


def envelopes() -> Iterator[dict[str, object]]:
    """Yield envelopes of this version and of another, with a field of a wrong type."""
    for value in VALUES:
        yield {"v": value}
        yield {"v": 2, "frames": value}
        for field in ("presence", "outcomes", "replaced"):
            yield {"v": 1, field: value}
            yield {"v": 1, field: [value, value, value]}
            yield {"v": 1, field: [[value, value, value]]}
        for field in ("first", "last", "frames", "key"):
            if not isinstance(value, int | bytes):
                yield {"v": 1, field: value}
        for names, count in ((value, 1), ([value], 1), (["alice"], value)):
            yield {"v": 1, "presence": ["another process", names, count]}
        yield {"v": 1, "outcomes": [{"process": value, "batch": value, "numbers": value}]}


class SilentMember:
    """A member that drops what is written to it."""

    on_lost: Callable[[], None] | None = None

    def restart(self) -> None:
        raise AssertionError("no member is restarted in this test")

    def write_frames(self, frames: bytes) -> None:
        pass


async def test_garbage_on_every_pubsub_channel_is_ignored(
    enter, workers: Workers, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_session, "_repeats", Repeats())
    alice = await enter()
    bob = await enter()
    layer, member = get_channel_layer(), SilentMember()
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await Broadcaster.current().join(member)
    bus, restarted = Bus.current(), counters.restarted
    await bus.publish("fence", b"")
    subscribed = cast("list[bytes]", await bus.client("").pubsub_channels())
    channels = [name.decode() for name in subscribed]
    assert {
        redis_keys.rates(),
        redis_keys.revoked(),
        redis_keys.dashboard(),
        redis_keys.room("lobby"),
        redis_keys.group("group"),
    } <= set(channels)
    payloads = INVALID_MSGPACK + valid_msgpack(random.Random(1))
    caplog.clear()
    for name in channels:
        await bus.publish_many([(name, payload) for payload in payloads])
    await layer.group_send("group", {"type": "hello"})
    async with asyncio.timeout(10):
        while (await layer.receive(channel)) != {"type": "hello"}:
            pass
    await alice.say("still here", id="1")
    assert (await bob.next("message"))["message"] == "still here"
    assert counters.restarted == restarted
    assert not [record for record in caplog.records if record.exc_info]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) < 60
    Broadcaster.current().leave(member)
