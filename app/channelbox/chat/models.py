"""Rooms and the numbered events in them."""

from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler

ROOM_NAME = r"[A-Za-z0-9._-]{1,80}"


class Random64(models.Func):
    """64 random bits, as a signed number, drawn by the database."""

    arity = 0
    output_field = models.BigIntegerField()
    allowed_default = True
    template = "random()"  # SQLite's

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **kwargs: Any) -> Any:
        bits = "('x' || substr(md5(gen_random_uuid()::text), 1, 16))::bit(64)::bigint"
        return self.as_sql(compiler, connection, template=bits, **kwargs)


class Installation(models.Model):
    """The one row of what is true of the whole record."""

    ONLY = 1  # its primary key

    epoch = models.BigIntegerField(
        db_default=Random64(), help_text="Another one after a backup was restored: clients forget what they have."
    )
    database_oid = models.BigIntegerField(null=True, help_text="Of the PostgreSQL database that this row was in.")

    def __str__(self) -> str:
        return f"epoch {self.epoch}"

    @classmethod
    def draw_epoch(cls) -> None:
        """Draw another epoch: numbers that clients have heard may belong to other events now."""
        changed = cls.objects.filter(pk=cls.ONLY).update(epoch=Random64())
        if not changed:
            cls.objects.create(pk=cls.ONLY)

    @classmethod
    def recognise_database(cls) -> bool:
        """Draw another epoch if PostgreSQL's database is another one than before. Return whether it is."""
        if connection.vendor != "postgresql":
            return False
        with connection.cursor() as cursor:
            cursor.execute("SELECT oid::bigint FROM pg_database WHERE datname = current_database()")
            (oid,) = cursor.fetchone()
        row, _ = cls.objects.get_or_create(pk=cls.ONLY)
        if row.database_oid == oid:
            return False
        if moved := row.database_oid is not None:
            cls.draw_epoch()
        cls.objects.filter(pk=cls.ONLY).update(database_oid=oid)
        return moved


class RoomManager(models.Manager["Room"]):
    """Rooms with the installation's epoch, without a query of its own."""

    def get_queryset(self) -> models.QuerySet["Room"]:
        epoch = Installation.objects.filter(pk=Installation.ONLY).values("epoch")
        return super().get_queryset().annotate(installation_epoch=models.Subquery(epoch))


class Room(models.Model):
    """A place to talk. Its name is in its address; its events are numbered 1, 2, 3 ... without a gap."""

    name = models.CharField(
        max_length=80,
        unique=True,
        validators=[RegexValidator(rf"^{ROOM_NAME}\Z", "Letters, digits, - _ and . only, 1 to 80 of them.")],
    )
    title = models.CharField(max_length=200, blank=True, help_text="Shown instead of the name.")
    limit = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="How many may be connected at once; empty: the installation's CHANNELBOX_ROOM_LIMIT.",
    )
    members_only = models.BooleanField(default=False, help_text="Only the members below may enter.")
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="rooms")
    closed = models.BooleanField(default=False, help_text="Nobody may enter or send; what was said is kept.")
    last_seq = models.BigIntegerField(default=0, editable=False)
    changed_at = models.DateTimeField(auto_now_add=True, editable=False, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)
    epoch = models.BigIntegerField(
        db_default=Random64(), editable=False, help_text="Tells this room from others that had its name or its key."
    )
    floor = models.BigIntegerField(
        default=1, db_default=1, editable=False, help_text="Events with lower numbers are no longer there."
    )

    objects = RoomManager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.title or self.name

    @cached_property
    def full_epoch(self) -> str:
        """The epoch as clients get it: the installation's and the room's. Asks the database where it was not read."""
        installation, epoch = self.__dict__.get("installation_epoch"), self.__dict__.get("epoch")
        if "installation_epoch" not in self.__dict__ or not isinstance(epoch, int):
            return Room.objects.get(pk=self.pk).full_epoch
        return f"{(installation or 0) % 2**64:016x}-{epoch % 2**64:016x}"


class Event(models.Model):
    """One numbered thing in a room. Kind `message` has text; other kinds may carry more in `data`."""

    # Both constraints begin with the room: an index of the room alone would only cost.
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
            # The sender is never null: NULLs are distinct, and a guest's resend would be stored twice.
            models.UniqueConstraint(fields=["room", "sender", "client_id"], name="event_id_once"),
        ]

    def __str__(self) -> str:
        return f"{self.room_id}/{self.seq}"
