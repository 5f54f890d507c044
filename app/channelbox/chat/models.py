"""Rooms and the numbered events in them."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models, transaction
from django.db.models.functions import Cast, Concat
from django.dispatch import Signal
from django.utils import timezone

from channelbox.chat.epochs import Installation, Random64, full_epoch

# Browsers resolve "." and ".." in an address as path segments: such a room could not be reached.
ROOM_NAME = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]{1,80}"

rooms_deleted = Signal()  # sent within the transaction that marks them; `keys`: their primary keys


class RoomQuerySet(models.QuerySet["Room"]):
    """Rooms. Deleting them only marks their rows."""

    def delete(self) -> tuple[int, dict[str, int]]:
        """Mark these rooms as deleted. This writes one row per room, however many events it has.

        Each room is closed and renamed, so that nobody finds it any more. Workers remove the rows later (cleanup.py).
        Returns what Django's `delete` does, with the number of rooms marked.
        """
        keys = list(self.values_list("pk", flat=True))
        with transaction.atomic():
            # In the order in which the store locks rooms, so that the two cannot deadlock.
            marked = Room.everything.filter(pk__in=keys, deleted_at=None).order_by("pk").select_for_update()
            names = dict(marked.values_list("pk", "name"))
            now = timezone.now()
            Room.everything.filter(pk__in=names).update(
                name=Concat(models.Value("~deleted-"), Cast("pk", models.CharField())), closed=True, deleted_at=now
            )
            retire_names(names.values())
            rooms_deleted.send(Room, keys=list(names))
        return len(names), {Room._meta.label: len(names)}

    delete.alters_data = True  # type: ignore[attr-defined]  # as in Django's own: not callable in templates
    delete.queryset_only = True  # type: ignore[attr-defined]


class RoomManager(models.Manager.from_queryset(RoomQuerySet)):  # type: ignore[misc]
    """Rooms that are not deleted, annotated with the installation's epoch, which so needs no query of its own."""

    def get_queryset(self) -> RoomQuerySet:
        epoch = Installation.objects.filter(pk=Installation.ONLY).values("epoch")
        rooms: RoomQuerySet = super().get_queryset()
        return rooms.filter(deleted_at=None).annotate(installation_epoch=models.Subquery(epoch))


class Room(models.Model):
    """A chat room. Its name is part of its address; its events are numbered 1, 2, 3 ... without gaps."""

    name = models.CharField(
        max_length=80,
        unique=True,
        validators=[
            RegexValidator(
                rf"^{ROOM_NAME}\Z",
                "Use 1 to 80 letters from A to Z, digits, hyphens, underscores or dots. "
                "The names . and .. are not allowed.",
            )
        ],
    )
    title = models.CharField(max_length=200, blank=True, help_text="Shown instead of the name.")
    limit = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="The highest number of connections. If it is empty, CHANNELBOX_ROOM_LIMIT applies.",
    )
    members_only = models.BooleanField(default=False, help_text="Only the members below may enter.")
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="rooms")
    closed = models.BooleanField(default=False, help_text="Nobody can enter or send; messages are kept.")
    last_seq = models.BigIntegerField(default=0, editable=False)
    changed_at = models.DateTimeField(auto_now_add=True, editable=False, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)
    epoch = models.BigIntegerField(
        db_default=Random64(), editable=False, help_text="Tells this room from others that had its name or its key."
    )
    floor = models.BigIntegerField(
        default=1, db_default=1, editable=False, help_text="Events with lower numbers are no longer there."
    )
    # Workers remove the rows of a deleted room later. Until then it has a name that no other room can have.
    deleted_at = models.DateTimeField(null=True, editable=False)

    objects = RoomManager()
    everything = models.Manager()  # noqa: DJ012 - includes deleted rooms; its `delete()` removes rows

    class Meta:
        ordering = ["name"]
        indexes = [
            models.Index(fields=["deleted_at"], name="room_deleted", condition=models.Q(deleted_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.title or self.name

    @cached_property
    def full_epoch(self) -> str:
        """Return the epoch as clients get it: the installation's and the room's. Queries the database if not loaded."""
        installation, epoch = self.__dict__.get("installation_epoch"), self.__dict__.get("epoch")
        if "installation_epoch" not in self.__dict__ or not isinstance(epoch, int):
            loaded: Room = Room.objects.get(pk=self.pk)
            return loaded.full_epoch
        return full_epoch(installation or 0, epoch)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Mark this room as deleted, as `RoomQuerySet.delete` does."""
        deleted: tuple[int, dict[str, int]] = Room.objects.filter(pk=self.pk).delete()
        return deleted


class DeletedName(models.Model):
    """The former name of a room that was deleted or renamed.

    A new room of this name is created only if somebody explicitly asks for it, not for a page that is still open.
    """

    name = models.CharField(max_length=80, unique=True)
    deleted_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.name


def retire_names(names: Iterable[str]) -> None:
    """Remember that no room is to get these names again unless somebody explicitly asks for it."""
    DeletedName.objects.bulk_create(
        [DeletedName(name=name, deleted_at=timezone.now()) for name in names],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["deleted_at"],
    )


class Event(models.Model):
    """A numbered event in a room. Kind `message` has text; other kinds may have further fields in `data`."""

    # Both constraints begin with the room, so an index on the room alone would only be a cost.
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="events", db_index=False)
    seq = models.BigIntegerField()
    kind = models.CharField(max_length=20, default="message")
    sender = models.CharField(max_length=64, help_text="`u:<user id>` or `g:<guest key>`; never empty.")
    client_id = models.CharField(max_length=64, help_text="The sender's own id for it.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    name = models.CharField(max_length=150, help_text="The sender's name at that time.")
    text = models.TextField(blank=True)
    data = models.JSONField(null=True, blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ["room", "seq"]
        constraints = [
            models.UniqueConstraint(fields=["room", "seq"], name="event_seq_once"),
            # The sender is never null: NULLs count as distinct, so a guest's resend would be stored twice.
            models.UniqueConstraint(fields=["room", "sender", "client_id"], name="event_id_once"),
        ]

    def __str__(self) -> str:
        return f"{self.room_id}/{self.seq}"
