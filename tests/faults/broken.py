"""Breaks the application on purpose, each time in one promise; the verdict must name the effect."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest import mock


def acknowledge_first() -> None:
    """Publish messages before the database has committed."""
    from channels.db import database_sync_to_async
    from django.db import transaction

    from channelbox.chat import ingest
    from channelbox.realtime.bus import Bus

    store, original = ingest.store, ingest.IngestConsumer._ingest

    async def _ingest(self: Any, entries: Any) -> Any:
        loop = asyncio.get_running_loop()

        async def tell(stored: Any) -> None:
            await Bus.current().publish_many(ingest._publishes(entries, stored))

        def tell_first(rooms: Any) -> Any:
            with transaction.atomic():
                stored = store(rooms)
                asyncio.run_coroutine_threadsafe(tell(stored), loop).result()
            return stored

        with mock.patch.object(ingest, "_store", database_sync_to_async(tell_first, thread_sensitive=False)):
            return await original(self, entries)

    ingest.MAX_TRANSACTION = 1_000_000  # all entries in one transaction, as what is published covers all of them
    ingest.IngestConsumer._ingest = _ingest  # type: ignore[method-assign]


def no_sequence() -> None:
    """Let the hub write events as they arrive, without restoring their sequence."""
    from channelbox.realtime.hub_room import HubRoom, Run

    def park(self: HubRoom, run: Run) -> None:
        self.known = max(self.known, run.last)
        self.seq = run.last
        self.write(run.frames, run.last - run.first + 1)

    HubRoom.park = park  # type: ignore[method-assign]


def no_dedup() -> None:
    """Store repeated messages again: the store does not look them up, and the database has no constraint."""
    from django.db import connection
    from django.db.models.signals import post_migrate

    from channelbox.chat import store
    from channelbox.chat.models import Event

    def unconstrain(sender: Any, **_: Any) -> None:
        if sender.name == "channelbox.chat":
            (once,) = [each for each in Event._meta.constraints if each.name == "event_id_once"]
            # SQLite recreates the table from the model.
            Event._meta.constraints = [each for each in Event._meta.constraints if each is not once]
            with connection.schema_editor() as editor:
                editor.remove_constraint(Event, once)

    post_migrate.connect(unconstrain, weak=False)
    read = store.store_sql.read
    # Look up ids that nobody has used: stored duplicates would be found twice, which the real function cannot handle.
    store.store_sql.read = lambda asked, users, **options: read(
        [(room, sender, f"{id}?") for room, sender, id in asked], users, **options
    )


BREAKAGES: dict[str, Callable[[], None]] = {
    "acknowledge-first": acknowledge_first,
    "no-sequence": no_sequence,
    "no-dedup": no_dedup,
}


def break_it(name: str) -> None:
    """Break this process in the named way. Raises KeyError for a name that is not in `BREAKAGES`."""
    BREAKAGES[name]()
