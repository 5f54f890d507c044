"""The pages: the rooms that one may enter, and a room."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from channelbox.chat import rights, words
from channelbox.chat.models import ROOM_NAME, Room
from channelbox.realtime.codes import Refused

P = ParamSpec("P")


class RoomForm(forms.Form):
    """The name of a room to open, or to create where there is none."""

    name = forms.RegexField(
        rf"^{ROOM_NAME}\Z",
        max_length=80,
        strip=True,
        error_messages={
            "required": _("Give the room a name."),
            "invalid": _("Letters, digits, - _ and . only, without spaces."),
            "max_length": _("At most 80 characters."),
        },
    )


def personal(
    view: Callable[Concatenate[HttpRequest, rights.Person, P], HttpResponseBase],
) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
    """Hands the person to the view, a guest with a key that lasts; who must sign in first is sent there."""

    @never_cache
    @wraps(view)
    def wrapped(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if settings.CHANNELBOX_GUESTS and not request.user.is_authenticated:
            rights.give_guest_key(request.session)
        try:
            person = rights.person_of(request.user, request.session)
        except Refused:
            return redirect_to_login(request.get_full_path())
        return view(request, person, *args, **kwargs)

    return wrapped


@require_http_methods(["GET", "HEAD", "POST"])
@personal
def rooms(request: HttpRequest, person: rights.Person) -> HttpResponseBase:
    """The rooms that one may enter, newest activity first; POST opens one by its name."""
    form = RoomForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["name"]
        if rights.may_create(person) or rights.open_to(person).filter(name=name).exists():
            return redirect("chat:room", room_name=name)
        form.add_error("name", _("There is no such room for you, and you may not create one."))
    context = {"rooms": _list(person), "form": form, "may_create": rights.may_create(person), "page": _page(person)}
    return render(request, "chat/rooms.html", context, status=400 if form.errors else 200)


@require_safe
@personal
def room(request: HttpRequest, person: rights.Person, room_name: str) -> HttpResponseBase:
    """A room. Its socket brings what was said, and creates a room that does not exist yet."""
    found = rights.open_to(person).filter(name=room_name).first()
    if found is None:
        if Room.objects.filter(name=room_name).exists():
            return _closed_door(request, room_name, 403)
        if not rights.may_create(person):
            return _closed_door(request, room_name, 404)
    title = str(found or room_name)
    page = {
        **_page(person),
        "room": room_name,
        "socket": f"/ws/chat/{room_name}/",
        "history": reverse("chat:history", kwargs={"room_name": room_name}),
        "rooms": reverse("chat:rooms"),
        "login": f"{reverse(settings.LOGIN_URL)}?{urlencode({'next': request.path})}",
        "limit": settings.CHANNELBOX_MESSAGE_MAX,
    }
    context = {"room": found, "room_name": room_name, "title": title, "rooms": _list(person), "page": page}
    return render(request, "chat/room.html", context)


def _page(person: rights.Person) -> dict[str, object]:
    """What the scripts of both pages are given."""
    return {"person": person.user_id or "guest", "list": reverse("chat:list"), "words": words.catalogue()}


def _list(person: rights.Person) -> list[Room]:
    return list(rights.newest_first(person))


def _closed_door(request: HttpRequest, room_name: str, status: int) -> HttpResponse:
    return render(request, "chat/closed.html", {"room_name": room_name, "missing": status == 404}, status=status)
