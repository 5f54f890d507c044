"""Removes the rows of deleted rooms and users, in transactions so short that nobody waits for one.

A room or user is gone for everybody as soon as it is marked as deleted (models.py); its rows are removed afterwards.
The mark is the record of this work, and the queue only wakes a worker: every worker looks for marks now and then, so
that another one continues when a worker dies. A lock in Redis lets one worker at a time do this.
"""

import asyncio
import contextlib
import datetime
import logging
import time
from typing import Any

from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import QuerySet
from django.dispatch import receiver
from django.utils import timezone
from redis.exceptions import LockError, RedisError

from channelbox.accounts.models import User, user_deleted
from channelbox.chat.models import DeletedName, Event, Room, rooms_deleted
from channelbox.realtime import redis_keys
from channelbox.realtime.background_tasks import cancel, supervise
from channelbox.realtime.bus import Bus

logger = logging.getLogger(__name__)

CLEANUP_CHANNEL = "chat.cleanup"
WAKE_SECONDS = 5.0  # between two checks for marks while nothing wakes the worker
LOCK_SECONDS = 5.0  # after which the lock of a worker that died is free for another one
MIN_BATCH, MAX_BATCH = 20, 1000  # rows removed in one transaction
BATCH_SECONDS = 0.02  # target duration of a transaction, to which the size of the batches is adapted
PAUSE_SECONDS = 0.05  # between two batches at least; twice the duration of the batch if that is more
NAME_DAYS = 30  # for which a page that is still open does not create a deleted room again


def remove_batch(limit: int) -> int | None:
    """Remove at most `limit` rows of what is marked, in one transaction. Return their number, or None if none is left.

    0 means that another worker, which was believed dead, has just removed the same rows.
    """
    room = Room.everything.filter(deleted_at__isnull=False).order_by("deleted_at").only("pk").first()
    if room is not None:
        return _remove_from_room(room, limit)
    user = User.deleted().only("pk").first()
    if user is not None:
        return _remove_from_user(user, limit)
    old = DeletedName.objects.filter(deleted_at__lt=timezone.now() - datetime.timedelta(days=NAME_DAYS))
    return _delete(old, limit) or None


def _remove_from_room(room: Room, limit: int) -> int:
    if (first := _first_seq(room)) is not None:
        return Event.objects.filter(room=room, seq__lt=first + limit).delete()[0]
    members = _delete(Room.members.through.objects.filter(room=room), limit)
    return members or Room.everything.filter(pk=room.pk).delete()[0]


def _first_seq(room: Room) -> int | None:
    return Event.objects.filter(room=room).order_by("seq").values_list("seq", flat=True).first()


def _remove_from_user(user: User, limit: int) -> int:
    """Remove at most `limit` rows of a user. Events stay, under the name that the user had then."""
    if said := list(Event.objects.filter(user=user).order_by("pk").values_list("pk", flat=True)[:limit]):
        return Event.objects.filter(pk__in=said).update(user=None)
    memberships = _delete(Room.members.through.objects.filter(user=user), limit)
    return memberships or User.objects.filter(pk=user.pk).delete()[0]


def _delete(rows: QuerySet[Any], limit: int) -> int:
    return rows.filter(pk__in=list(rows.values_list("pk", flat=True)[:limit])).delete()[0]


_remove_batch = database_sync_to_async(remove_batch, thread_sensitive=False)


@receiver([rooms_deleted, user_deleted])
def wake(**kwargs: Any) -> None:
    """Wake a worker once the mark is committed. Never raises: workers also look by themselves."""
    transaction.on_commit(_wake)


def _wake() -> None:
    try:
        async_to_sync(get_channel_layer("work").send)(CLEANUP_CHANNEL, {"type": CLEANUP_CHANNEL})
    except (RedisError, OSError, ChannelFull) as error:
        logger.warning("Cannot wake a worker to remove deleted data; a worker looks for it within seconds: %s", error)


class Cleanup:
    """The part of a worker process that removes the rows of what was deleted."""

    def __init__(self) -> None:
        self._limit = MIN_BATCH
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = supervise("cleanup", self._run)

    async def stop(self) -> None:
        """Stop. A transaction that is under way still finishes in its thread."""
        await cancel(self._task)

    async def _run(self) -> None:
        layer = get_channel_layer("work")
        while True:
            try:
                await layer.receive_many(CLEANUP_CHANNEL, 1, WAKE_SECONDS)
                await self.clean()
            except (RedisError, OSError, DatabaseError, InterfaceError) as error:
                logger.info("Cannot remove deleted data at the moment: %s", error)
                await asyncio.sleep(WAKE_SECONDS)

    async def clean(self) -> None:
        """Remove everything that is marked, unless another worker does. Raises the errors of Redis and the database."""
        name = redis_keys.cleanup()
        lock = Bus.current().client(name).lock(name, timeout=LOCK_SECONDS, blocking=False, thread_local=False)
        if not await lock.acquire():
            return
        try:
            with contextlib.suppress(LockError):  # Redis was emptied, or this process frozen: another worker has it
                while await self._remove() is not None:
                    await lock.reacquire()
        finally:
            with contextlib.suppress(LockError, RedisError, OSError):
                await lock.release()

    async def _remove(self) -> int | None:
        """Remove one batch, adapt the size of the next one, and pause."""
        started = time.monotonic()
        removed: int | None = await _remove_batch(self._limit)
        took = time.monotonic() - started
        self._limit = round(max(MIN_BATCH, min(MAX_BATCH, self._limit * max(0.5, min(2, BATCH_SECONDS / took)))))
        if removed is not None:
            await asyncio.sleep(max(PAUSE_SECONDS, 2 * took))
        return removed
