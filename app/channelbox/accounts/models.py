"""A person who signs in."""

from typing import Any, Self

from django.contrib.auth.models import AbstractUser
from django.db import models, transaction
from django.dispatch import Signal

DELETED = "~deleted-"  # how the name of a deleted user begins; nobody can be given such a name

user_deleted = Signal()  # within the transaction that marks a user; `key`: its primary key


class User(AbstractUser):
    """Django's user, ours from the first migration on, so that later fields need no change of model."""

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Mark this user as deleted: access ends and the name is free, however much this user said.

        Workers take the user off each message, a few at a time, and remove the row (chat/cleanup.py).
        """
        with transaction.atomic():
            marked = User.objects.filter(pk=self.pk).update(
                username=f"{DELETED}{self.pk}",
                first_name="",
                last_name="",
                email="",
                is_active=False,
                is_staff=False,
                is_superuser=False,
            )
            user_deleted.send(User, key=self.pk)
        return marked, {User._meta.label: marked}

    @classmethod
    def deleted(cls) -> models.QuerySet[Self]:
        """Return those that are marked."""
        return cls.objects.filter(username__startswith=DELETED, is_active=False)
