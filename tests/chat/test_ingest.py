"""The worker's consumer: the envelopes that it publishes, and its retries of batches of locked rooms."""

import asyncio

import pytest

from channelbox.chat.ingest import IngestConsumer, _Entry, _publishes
from channelbox.chat.models import Room
from channelbox.chat.store import store
from channelbox.realtime import background_tasks
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Batch, BatchRef, Envelope, IncomingEvent, RoomRef


def entry(number: int) -> _Entry:
    return _Entry(Batch(BatchRef("me", number), RoomRef(1, "lobby"), []), asyncio.get_running_loop().time() + 60)


async def test_an_error_in_a_retry_is_counted_and_new_entries_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background_tasks, "PAUSE_SECONDS", 0.01)
    consumer, before = IngestConsumer(), counters.restarted
    first, second = entry(1), entry(2)
    tried: list[_Entry] = []
    stored = asyncio.Event()

    async def ingest(entries: list[_Entry]) -> list[_Entry]:
        tried.extend(entries)
        if first in entries:
            consumer._retry_later([second])
            raise ZeroDivisionError
        stored.set()
        return []

    monkeypatch.setattr(consumer, "_ingest", ingest)
    consumer._retry_later([first])
    await asyncio.wait_for(stored.wait(), 10)
    assert tried == [first, second]
    assert counters.restarted == before + 1


@pytest.mark.django_db(transaction=True)
def test_an_envelope_has_the_epoch_of_its_numbers() -> None:
    """That of the database when they were assigned, which the senders may not have yet."""
    room = Room.objects.create(name="lobby")
    ref, event = (
        RoomRef(room.pk, "lobby", "epoch before"),
        IncomingEvent("g:alice", None, "alice", "1", "message", "hi"),
    )
    entries = [_Entry(Batch(BatchRef("me", number), ref, [event]), 0.0) for number in (1, 2)]
    new, known = (_publishes([entry], store({ref: [event]})) for entry in entries)
    for ((_, payload),), first in ((new, 1), (known, 0)):
        envelope = Envelope.unpack(payload)
        assert (envelope.first, envelope.last, envelope.key) == (first, 1, room.pk)
        assert envelope.epoch == Room.objects.get().full_epoch
