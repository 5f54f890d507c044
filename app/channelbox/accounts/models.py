"""The user model."""

from typing import Any, Self

from django.contrib.auth.models import AbstractUser
from django.db import models, transaction
from django.db.models.functions import Cast, Concat
from django.dispatch import Signal

DELETED = "~deleted-"  # prefix of a deleted user's name; nobody can be given such a name

user_deleted = Signal()  # sent within the transaction that marks users; `keys`: their primary keys


class User(AbstractUser):
    """Django's user, as our own model from the first migration on, so that later fields need no other model."""

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Mark this user as deleted, as `mark_deleted` does."""
        marked = User.mark_deleted([self.pk])
        return marked, {User._meta.label: marked}

    @classmethod
    def mark_deleted(cls, keys: list[int]) -> int:
        """Mark users as deleted, by primary key: access ends and the names are free, however much these users wrote.

        Workers remove the users from each message, a few messages at a time, and then the rows (chat/cleanup.py).
        Returns how many users were marked.
        """
        with transaction.atomic():
            # Lock in one order, so that two deletions do not deadlock.
            locked = cls.objects.filter(pk__in=keys).order_by("pk").select_for_update()
            marked = cls.objects.filter(pk__in=list(locked.values_list("pk", flat=True))).update(
                username=Concat(models.Value(DELETED), Cast("pk", models.CharField())),
                first_name="",
                last_name="",
                email="",
                is_active=False,
                is_staff=False,
                is_superuser=False,
            )
            user_deleted.send(cls, keys=keys)
        return marked

    @classmethod
    def deleted(cls) -> models.QuerySet[Self]:
        """Return the users that are marked as deleted."""
        return cls.objects.filter(username__startswith=DELETED, is_active=False)
