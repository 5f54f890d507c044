"""What changes whether somebody may stay: told to all web processes once it is committed."""

from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.utils import timezone

from channelbox.accounts.models import User, user_deleted
from channelbox.accounts.revocation import notify_after_commit


@receiver(post_delete, sender=Session)
def signed_out(instance: Session, **kwargs: Any) -> None:
    """Signing out deletes the session; so does the daily clean-up, but of those that have expired anyway."""
    if instance.expire_date > timezone.now() and (user := instance.get_decoded().get(SESSION_KEY)):
        notify_after_commit("user", user)


@receiver(post_save, sender=User)
def changed(instance: User, created: bool, update_fields: frozenset[str] | None, **kwargs: Any) -> None:
    """A new password or no more access. Each sign-in saves too, and changes neither."""
    if not created and update_fields != frozenset({"last_login"}):
        notify_after_commit("user", instance.pk)


@receiver(user_deleted)
def deleted(keys: list[int], **kwargs: Any) -> None:
    notify_after_commit("user", *keys)


@receiver(post_delete, sender=User)
def removed(instance: User, **kwargs: Any) -> None:
    """By a query set, which does not mark."""
    notify_after_commit("user", instance.pk)
