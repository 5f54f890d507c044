"""Rooms and the numbered events in them."""

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models

ROOM_NAME = r"[A-Za-z0-9._-]{1,80}"


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

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.title or self.name


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
