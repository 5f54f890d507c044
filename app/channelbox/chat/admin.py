"""Rooms in Django's admin."""

import datetime
from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelectMultiple, ManyToManyRawIdWidget
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _

from channelbox.chat.models import Room, retire_names

MAX_SELECT_MEMBERS = 500  # up to which the members of a room are edited by name


class KeysMixin:
    """Accepts several keys both as one field each and as a single field, separated by commas.

    Between rendering and submitting the form, the members of the room may become more than MAX_SELECT_MEMBERS, or
    fewer, and then the other widget reads what the first one sent.
    """

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        """Return all submitted keys."""
        return [key for value in data.getlist(name) for key in value.split(",") if key]


class MembersRawIdWidget(KeysMixin, ManyToManyRawIdWidget):
    """A single field with the keys of the members."""


class MembersSelectWidget(KeysMixin, AutocompleteSelectMultiple):
    """A field for each member, with their names."""


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's has none at run time
    """Rooms, their limits and members. Events are not edited here: their numbers may have no gap."""

    list_display = ("name", "title", "members_only", "closed", "last_number", "last_activity")
    list_filter = ("members_only", "closed")
    search_fields = ("name", "title")
    autocomplete_fields = ("members",)
    readonly_fields = ("last_number", "last_activity", "created_at")

    @admin.display(description="Last event number", ordering="last_seq")
    def last_number(self, room: Room) -> int:
        return room.last_seq

    @admin.display(description="Last activity", ordering="changed_at")
    def last_activity(self, room: Room) -> datetime.datetime:
        return room.changed_at

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Use a single field of keys for very many members: more than 1,000 separate fields are refused, and slow."""
        key = request.resolver_match.kwargs.get("object_id", "") if request.resolver_match else ""
        room = self.get_object(request, key)
        if room is not None and room.members.count() > MAX_SELECT_MEMBERS:
            kwargs["widget"] = MembersRawIdWidget(db_field.remote_field, self.admin_site)
        else:
            kwargs["widget"] = MembersSelectWidget(db_field, self.admin_site)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Room, form: "ModelForm[Room]", change: bool) -> None:
        """Save only the edited fields: meanwhile workers number messages in this row."""
        if not change:
            return super().save_model(request, obj, form, change)
        edited = [name for name in form.changed_data if not obj._meta.get_field(name).many_to_many]
        if "name" in edited:
            retire_names([form.initial["name"]])
        return obj.save(update_fields=edited)

    def get_deleted_objects(
        self, objs: Iterable[Any], request: HttpRequest
    ) -> tuple[list[Any], Any, set[Any], list[Any]]:
        """Return the rooms with the number of their events. Django would load every message to list it.

        Nothing that is deleted with a room is protected or needs a permission of its own.
        """
        rooms = list(objs)
        shown = [format_html(_("Room {} with {} messages and other events"), room, room.last_seq) for room in rooms]
        missing = set() if self.has_delete_permission(request) else {self.opts.verbose_name}
        return shown, {self.opts.verbose_name_plural: len(rooms)}, missing, []
