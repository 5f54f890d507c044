"""Rooms in Django's admin."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelectMultiple, ManyToManyRawIdWidget
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _

from channelbox.chat.models import Room, give_up_names

MANY_MEMBERS = 500


class Keys:
    """A widget of several keys that takes them as a field each, and as one field with commas between them.

    A room may come to have more than MANY_MEMBERS, or fewer, between the form and its being sent.
    """

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        """Return all keys that were sent."""
        return [key for value in data.getlist(name) for key in value.split(",") if key]


class KeysInOne(Keys, ManyToManyRawIdWidget):
    """One field."""


class KeysApart(Keys, AutocompleteSelectMultiple):
    """A field each, with the members' names."""


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):
    """Rooms, their limits and members. What was said is not edited here: its numbers may have no gap."""

    list_display = ("name", "title", "members_only", "closed", "last_seq", "changed_at")
    list_filter = ("members_only", "closed")
    search_fields = ("name", "title")
    autocomplete_fields = ("members",)
    readonly_fields = ("last_seq", "changed_at", "created_at")

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Show the keys of very many members: as a field each, more than 1,000 would be refused, and slow."""
        key = request.resolver_match.kwargs.get("object_id", "") if request.resolver_match else ""
        room = self.get_object(request, key)
        if room is not None and room.members.count() > MANY_MEMBERS:
            kwargs["widget"] = KeysInOne(db_field.remote_field, self.admin_site)
        else:
            kwargs["widget"] = KeysApart(db_field, self.admin_site)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Room, form: ModelForm, change: bool) -> None:
        """Writes what was edited and nothing else: workers number messages in this row meanwhile."""
        if not change:
            return super().save_model(request, obj, form, change)
        edited = [name for name in form.changed_data if not obj._meta.get_field(name).many_to_many]
        if "name" in edited:
            give_up_names([form.initial["name"]])
        return obj.save(update_fields=edited)

    def get_deleted_objects(
        self, objs: Iterable[Any], request: HttpRequest
    ) -> tuple[list[Any], Any, set[Any], list[Any]]:
        """Return the rooms and how much was said in them. Django would load every message to show it.

        Nothing that goes with a room is protected or needs a right of its own.
        """
        rooms = list(objs)
        shown = [
            format_html(_("Room {}, with all that was said in it: {} events"), room, room.last_seq) for room in rooms
        ]
        missing = set() if self.has_delete_permission(request) else {self.opts.verbose_name}
        return shown, {self.opts.verbose_name_plural: len(rooms)}, missing, []
