"""Rooms in Django's admin."""

from django.contrib import admin

from channelbox.chat.models import Room


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):
    """Rooms, their limits and members. What was said is not edited here: its numbers may have no gap."""

    list_display = ("name", "title", "members_only", "closed", "last_seq", "changed_at")
    list_filter = ("members_only", "closed")
    search_fields = ("name", "title")
    filter_horizontal = ("members",)
    readonly_fields = ("last_seq", "changed_at", "created_at")
