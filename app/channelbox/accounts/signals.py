"""Notices to all web processes, once committed, of changes that may close connections."""

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
    """Publish a sign-out, which deletes the session. The daily clean-up deletes only sessions that have expired."""
    if instance.expire_date > timezone.now() and (user := instance.get_decoded().get(SESSION_KEY)):
        notify_after_commit("user", user)


@receiver(post_save, sender=User)
def changed(instance: User, created: bool, update_fields: frozenset[str] | None, **kwargs: Any) -> None:
    """Publish a user who may have a new password or no more access. Each sign-in saves too, but changes neither."""
    if not created and update_fields != frozenset({"last_login"}):
        notify_after_commit("user", instance.pk)


@receiver(user_deleted)
def deleted(keys: list[int], **kwargs: Any) -> None:
    notify_after_commit("user", *keys)


@receiver(post_delete, sender=User)
def removed(instance: User, **kwargs: Any) -> None:
    """Publish a user whose row is deleted by a query set, which does not mark it first (models.py)."""
    notify_after_commit("user", instance.pk)
