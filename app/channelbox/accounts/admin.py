"""Administration of users."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from channelbox.accounts.models import User


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]  # Django's has none at run time
    """Django's user administration, except that deleting marks the user (models.py)."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).exclude(pk__in=User.deleted())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        User.mark_deleted(list(queryset.values_list("pk", flat=True)))
