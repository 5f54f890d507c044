"""Rooms in Django's admin."""

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest

from channelbox.chat.models import Room


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):
    """Rooms, their limits and members. What was said is not edited here: its numbers may have no gap."""

    list_display = ("name", "title", "members_only", "closed", "last_seq", "changed_at")
    list_filter = ("members_only", "closed")
    search_fields = ("name", "title")
    filter_horizontal = ("members",)
    readonly_fields = ("last_seq", "changed_at", "created_at")

    def save_model(self, request: HttpRequest, obj: Room, form: ModelForm, change: bool) -> None:
        """Writes what was edited and nothing else: workers number messages in this row meanwhile."""
        if not change:
            return super().save_model(request, obj, form, change)
        edited = [name for name in form.changed_data if not obj._meta.get_field(name).many_to_many]
        return obj.save(update_fields=edited)
