"""The worker consumer that stores messages and publishes their outcomes.

The entries that are taken from the queue at once take one transaction and one pipeline of publishes, or several if they
are many. Their rooms are all published on one Redis host, so nothing here waits for another host. A room that another
transaction has locked is retried separately, while the others go on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from channels.consumer import AsyncConsumer
from channels.db import database_sync_to_async
from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError, connection
from redis.exceptions import RedisError

from channelbox.chat import serializers
from channelbox.chat.event_kinds import parse_kind
from channelbox.chat.models import Room
from channelbox.chat.store import Incoming, Outcome, Stored, store
from channelbox.postgresql.errors import is_connection_lost
from channelbox.realtime import redis_keys
from channelbox.realtime.background_tasks import supervise
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Batch, BatchOutcome, Envelope, EventKey, IncomingEvent, RoomRef

logger = logging.getLogger(__name__)

INGEST_CHANNEL = "chat.ingest"
INGEST_TYPE = "chat.ingest"

# On SQLite a transaction holds the only write lock: for less than 50 ms with this many messages.
MAX_TRANSACTION = 500  # messages; a single batch has less than half of that
MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.002, 0.25  # between attempts to store in rooms that are locked
MAX_RETRIED = 1000  # batches; the outboxes resend the others after their deadlines

# Threads for all transactions that may run at once: the event loop's own threads are few, and others need them. With a
# connection pool, one thread per connection except one, which is left to others: more threads would wait for the pool,
# which gives up after 3 s. At least two, in case one transaction is slow.
MAX_UNDER_WAY = 16 if connection.vendor == "sqlite" else max(2, settings.CHANNELBOX_DATABASE_POOL - 1)
_threads = ThreadPoolExecutor(MAX_UNDER_WAY, thread_name_prefix="store")
_store: Callable[[Incoming], Awaitable[Stored]] = database_sync_to_async(
    store, thread_sensitive=False, executor=_threads
)
_check_database = database_sync_to_async(lambda: Room.objects.exists(), thread_sensitive=False)


@dataclass(slots=True)
class _Entry:
    """A batch. `until`: the event loop's time after which the outbox sends it again."""

    batch: Batch
    until: float

    @classmethod
    def of(cls, message: dict[str, Any], until: float) -> "_Entry":
        """Read an entry of the queue. Raises ValueError if this version cannot store it."""
        batch = Batch.of(message)
        for event in batch.events:
            parse_kind(event.kind, event.data)
        return cls(batch, until)


class IngestConsumer(AsyncConsumer):
    """Stores batches from the queue. A batch gets its outcome only after the commit; without one it is sent again."""

    channel_layer_alias = "none"
    batch = True  # the worker passes on all entries that it took at once
    bulk = True  # rooms with much to store have a separate list and hold up no others
    every_host = True  # each Redis host has the batches of the rooms that are published there
    in_hand = 2  # a slow transaction does not hold up others

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._locked: list[_Entry] = []
        self._retry: asyncio.Task[None] | None = None

    @classmethod
    async def ready(cls) -> None:
        """Return if the database answers and has its tables, else raise. The worker takes nothing before that."""
        await _check_database()

    async def __call__(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().__call__(*args, **kwargs)
        finally:
            if self._retry is not None:
                self._retry.cancel()

    async def dispatch(self, message: dict[str, Any]) -> None:
        until = asyncio.get_running_loop().time() + settings.CHANNELBOX_WORK_EXPIRY
        entries = []
        for each in message["messages"]:
            try:
                entries.append(_Entry.of(each, until))
            except ValueError as error:
                # Without an outcome it is sent again until a worker takes it that can read it.
                logger.error("Cannot read a queue entry (from another version?): %s", error)
        if locked := await self._ingest(entries):
            self._retry_later(locked)

    async def _ingest(self, entries: Iterable[_Entry]) -> list[_Entry]:
        """Store and publish. Return the entries of the rooms that another transaction has locked."""
        locked: list[_Entry] = []
        for some in _transactions(entries):
            rooms: dict[RoomRef, list[IncomingEvent]] = {}
            for entry in some:
                rooms.setdefault(entry.batch.room, []).extend(entry.batch.events)
            try:
                stored = await _store_rooms(rooms)
            except (OperationalError, InterfaceError, InternalError) as error:  # the last: it is read-only
                logger.error("Database error; %d batches will be sent again: %s", len(some), error)
                return locked
            counters.stored += sum(len(outcome.stored) for outcome in stored.outcomes.values())
            locked += [entry for entry in some if entry.batch.room in stored.busy]
            try:
                await Bus.current().publish_many(_publishes(some, stored))
            except (RedisError, OSError) as error:
                logger.error("Cannot publish stored messages; the outboxes will send them again: %s", error)
        return locked

    # --- Rooms that are locked

    def _retry_later(self, locked: list[_Entry]) -> None:
        self._locked += locked
        if len(self._locked) > MAX_RETRIED:
            logger.warning(
                "Too many batches of locked rooms; %d are dropped here and will be sent again",
                len(self._locked) - MAX_RETRIED,
            )
            del self._locked[:-MAX_RETRIED]
        if self._retry is None:
            self._retry = supervise("retry of locked rooms", self._retry_locked)

    async def _retry_locked(self) -> None:
        """Retry until none is left. If a round raises, the outboxes send its batches again."""
        pause = MIN_RETRY_SECONDS
        while self._locked:
            await asyncio.sleep(pause)
            now = asyncio.get_running_loop().time()
            tried = [entry for entry in self._locked if entry.until > now]
            self._locked = []
            still_locked = await self._ingest(tried)
            self._locked += still_locked
            pause = min(pause * 2, MAX_RETRY_SECONDS) if len(still_locked) == len(tried) else MIN_RETRY_SECONDS
        self._retry = None


async def _store_rooms(rooms: Incoming) -> Stored:
    """Call `store`; if its connection to the database was lost, call it once more on another one.

    Whatever was committed all the same is then reported as stored before.
    """
    try:
        return await _store(rooms)
    except (OperationalError, InterfaceError, InternalError) as error:
        if not is_connection_lost(error):
            raise
        logger.warning("Lost a database connection; retrying its transaction on another one: %s", str(error).strip())
    return await _store(rooms)


def _transactions(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """Split the entries into parts of one transaction each."""
    some: list[_Entry] = []
    size = 0
    for entry in entries:
        if some and size + len(entry.batch.events) > MAX_TRANSACTION:
            yield some
            some, size = [], 0
        some.append(entry)
        size += len(entry.batch.events)
    if some:
        yield some


def _publishes(entries: Iterable[_Entry], stored: Stored) -> list[tuple[str, bytes]]:
    """Return one publish (channel, payload) for each room: its new frames, and the outcome of each of its batches."""
    batches: dict[RoomRef, list[_Entry]] = {}
    for entry in entries:
        batches.setdefault(entry.batch.room, []).append(entry)
    publishes = []
    for room, outcome in stored.outcomes.items():
        numbers = {(event.sender, event.client_id): event.seq for event in outcome.stored}
        outcomes = [_outcome(entry, outcome, numbers) for entry in batches[room]]
        if outcome.stored:
            run = serializers.run(outcome.stored, outcome.stored[0].seq - 1)
            changed = serializers.replaced(outcome.changed)
            envelope = Envelope(
                run.first, run.last, run.frames, room.key, outcomes, replaced=changed, epoch=outcome.epoch
            )
        else:
            # Nothing new. Earlier publishes may have been lost: a process that lacks this number reads up to it.
            newest = max(outcome.known.values(), default=0)
            envelope = Envelope(last=newest, key=room.key, outcomes=outcomes, epoch=outcome.epoch)
        publishes.append((redis_keys.room(room.name), envelope.pack()))
    return publishes


def _outcome(entry: _Entry, outcome: Outcome, numbers: dict[EventKey, int]) -> BatchOutcome:
    """Return the outcome of one batch. `numbers`: those of the events stored now, whichever batch they came in."""
    known: dict[int, int] = {}
    refused: dict[int, tuple[str, str]] = {}
    for position, event in enumerate(entry.batch.events):
        if event.key in numbers:
            continue
        if (seq := outcome.known.get(event.key)) is not None:
            known[position] = seq
        else:
            code, sentence = outcome.refused[event.key]
            refused[position] = str(code), sentence
    all_numbers = [
        numbers.get(event.key) or known.get(position, 0) for position, event in enumerate(entry.batch.events)
    ]
    return BatchOutcome(entry.batch.ref, all_numbers, frozenset(known), refused)
