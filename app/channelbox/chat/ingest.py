"""The worker consumer that stores messages and tells everybody. One batch is one transaction and one pipeline."""

import logging
from dataclasses import dataclass, field
from typing import Any

from channels.consumer import AsyncConsumer
from channels.db import database_sync_to_async
from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError

from channelbox.chat import events
from channelbox.chat.incoming import IncomingEvent
from channelbox.chat.models import Room
from channelbox.chat.store import Outcome, store
from channelbox.realtime import keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.envelope import Answer, Envelope, Origin

logger = logging.getLogger(__name__)

INGEST_CHANNEL = "chat.ingest"
INGEST_TYPE = "chat.ingest"

_store = database_sync_to_async(store, thread_sensitive=False)
_reach = database_sync_to_async(lambda: Room.objects.exists(), thread_sensitive=False)


@dataclass(slots=True)
class _Entry:
    """One room's batch of one process's outbox."""

    room: str
    origin: str
    batch: int
    drafts: list[IncomingEvent] = field(default_factory=list)

    @classmethod
    def of(cls, message: dict[str, Any]) -> "_Entry":
        return cls(
            message["room"],
            message["origin"],
            message["batch"],
            [IncomingEvent.of(fields) for fields in message["messages"]],
        )


class IngestConsumer(AsyncConsumer):
    """Stores what the queue brings. Nothing is answered that is not committed: unanswered batches are sent again."""

    channel_layer_alias = "none"
    batch = True  # the worker hands over all that it took at once

    @classmethod
    async def ready(cls) -> None:
        """The database answers and has its tables: before, a worker takes nothing. Raises what it raises."""
        await _reach()

    async def dispatch(self, message: dict[str, Any]) -> None:
        entries = []
        for each in message["messages"]:
            try:
                entries.append(_Entry.of(each))
            except (KeyError, TypeError, ValueError) as error:
                # Unanswered, it is sent again until a worker that understands it takes it.
                logger.error("An entry of the queue is not understood (another version?): %r", error)
        if entries:
            await self._ingest(entries)

    async def _ingest(self, entries: list[_Entry]) -> None:
        rooms: dict[str, list[IncomingEvent]] = {}
        for entry in entries:
            rooms.setdefault(entry.room, []).extend(entry.drafts)
        try:
            outcomes = await _store(rooms)
        except (OperationalError, InterfaceError) as error:
            logger.error("The database cannot be used; %d batches will be sent again: %s", len(entries), error)
            return
        counters.stored += sum(len(outcome.stored) for outcome in outcomes.values())
        try:
            await Bus.current().publish_many(self._publishes(entries, outcomes))
        except (RedisError, OSError) as error:
            logger.error("What was stored cannot be told; the outboxes will ask again: %s", error)

    def _publishes(self, entries: list[_Entry], outcomes: dict[str, Outcome]) -> list[tuple[str, bytes]]:
        """Answers first: on one connection they arrive before the room's own publish."""
        answers: list[tuple[str, bytes]] = []
        origins: dict[str, list[Origin]] = {}
        for entry in entries:
            outcome = outcomes[entry.room]
            stored = [(*d.key, outcome.known[d.key]) for d in entry.drafts if d.key in outcome.known]
            refused = [(*d.key, *outcome.refused[d.key]) for d in entry.drafts if d.key in outcome.refused]
            if stored or refused:
                answer = Answer(entry.room, entry.batch, stored, refused)
                answers.append((keys.origin(entry.origin), answer.pack()))
            elsewhere = [draft.id for draft in entry.drafts if draft.key in outcome.known]
            if len(stored) + len(refused) < len(entry.drafts):
                origins.setdefault(entry.room, []).append(Origin(entry.origin, entry.batch, elsewhere))
        rooms = []
        for name, outcome in outcomes.items():
            if outcome.stored:
                run = events.run(outcome.stored, outcome.stored[0].seq - 1)
                envelope = Envelope(
                    run.first,
                    run.last,
                    origins.get(name, []),
                    run.frames,
                    replaced=events.replaced(outcome.changed),
                )
            elif outcome.known:
                # Stored before, but was it told? Whoever lacks it reads it.
                envelope = Envelope(0, max(outcome.known.values()), [], b"")
            else:
                continue
            rooms.append((keys.room(name), envelope.pack()))
        return answers + rooms
