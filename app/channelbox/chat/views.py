"""The pages: the rooms that one may enter, and a room."""

import secrets
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from channelbox.chat import words
from channelbox.chat.models import ROOM_NAME, Room

ROOMS_IN_LIST = 200


class RoomForm(forms.Form):
    """The name of a room to open, or to create where there is none."""

    name = forms.RegexField(
        rf"^{ROOM_NAME}\Z",
        max_length=80,
        error_messages={
            "required": _("Give the room a name."),
            "invalid": _("Letters, digits, - _ and . only, without spaces."),
            "max_length": _("At most 80 characters."),
        },
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def rooms(request: HttpRequest) -> HttpResponseBase:
    """The rooms that one may enter, newest activity first; POST opens one by its name."""
    if not known(request):
        return redirect_to_login(request.get_full_path())
    form = RoomForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["name"]
        if may_create(request) or Room.objects.filter(name=name).exists():
            return redirect("chat:room", room_name=name)
        form.add_error("name", _("There is no such room, and only staff may create one."))
    context = {"rooms": rooms_for(request), "form": form, "may_create": may_create(request)}
    return render(request, "chat/rooms.html", context, status=400 if form.errors else 200)


@never_cache
@require_safe
def room(request: HttpRequest, room_name: str) -> HttpResponseBase:
    """A room. The socket brings everything that was said; the page knows only how to ask for it."""
    if not known(request):
        return redirect_to_login(request.get_full_path())
    found = Room.objects.filter(name=room_name).first()
    if found is None and not may_create(request):
        return _closed_door(request, room_name, 404)
    if found is not None and not may_enter(request, found):
        return _closed_door(request, room_name, 403)
    page: dict[str, Any] = {
        "room": room_name,
        "person": str(request.user.pk or "guest"),
        "title": str(found) if found else room_name,
        "socket": f"/ws/chat/{room_name}/",
        "history": reverse("chat:history", kwargs={"room_name": room_name}),
        "rooms": reverse("chat:rooms"),
        "login": f"{reverse(settings.LOGIN_URL)}?next={request.path}",
        "limit": settings.CHANNELBOX_MESSAGE_MAX,
        "words": words.catalogue(),
    }
    return render(
        request,
        "chat/room.html",
        {"room": found, "room_name": room_name, "title": page["title"], "rooms": rooms_for(request), "page": page},
    )


def _closed_door(request: HttpRequest, room_name: str, status: int) -> HttpResponse:
    return render(request, "chat/closed.html", {"room_name": room_name, "missing": status == 404}, status=status)


def known(request: HttpRequest) -> bool:
    """Signed in, or a guest where guests may talk: a guest gets an unguessable key for the session."""
    if request.user.is_authenticated:
        return True
    if not settings.CHANNELBOX_GUESTS:
        return False
    if "guest" not in request.session:
        request.session["guest"] = secrets.token_urlsafe(24)
    return True


def may_create(request: HttpRequest) -> bool:
    """Whether this person may open a room that does not exist yet."""
    match settings.CHANNELBOX_ROOM_CREATION:
        case "anyone":
            return True
        case "users":
            return request.user.is_authenticated
        case _:
            return request.user.is_authenticated and request.user.is_staff


def may_enter(request: HttpRequest, room: Room) -> bool:
    """Whether this person may be in this room."""
    return _open_to(request).filter(pk=room.pk).exists()


def rooms_for(request: HttpRequest) -> QuerySet[Room]:
    """The rooms that this person may enter, newest activity first."""
    return _open_to(request).order_by("-changed_at")[:ROOMS_IN_LIST]


def _open_to(request: HttpRequest) -> QuerySet[Room]:
    rooms = Room.objects.filter(closed=False)
    if not request.user.is_authenticated:
        return rooms.filter(members_only=False)
    return rooms.filter(Q(members_only=False) | Q(members=request.user)).distinct()
