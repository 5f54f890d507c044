"""The chat's pages: the room list, and a room."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec
from urllib.parse import urlencode

from asgiref.sync import async_to_sync
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

from channelbox.chat import permissions, room_list, ui_strings
from channelbox.chat.models import ROOM_NAME, DeletedName, Room
from channelbox.realtime.admission import Source
from channelbox.realtime.client_address import network
from channelbox.realtime.errors import Refused
from channelbox.version import package_version

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

P = ParamSpec("P")

MIN_SEARCHABLE = 20  # rooms in the list, from which on it has a search field


class RoomForm(forms.Form):
    """The name of a room to open, or to create if there is none."""

    name = forms.RegexField(
        rf"^{ROOM_NAME}\Z",
        max_length=80,
        strip=True,
        error_messages={
            "required": _("Enter a room name."),
            "invalid": _(
                "Use only letters from A to Z, digits, hyphens, underscores and dots, without spaces. "
                "The names . and .. are not allowed."
            ),
            "max_length": _("Use at most 80 characters."),
        },
    )


def with_person(
    view: Callable[Concatenate[HttpRequest, permissions.Person, P], HttpResponseBase],
) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
    """Decorate a view that takes the person of the request. Guests get a lasting key.

    Clients that must sign in first are redirected to the sign-in page.
    """

    @never_cache
    @wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if settings.CHANNELBOX_GUESTS and not request.user.is_authenticated:
            permissions.ensure_guest_key(request.session)
        try:
            person = permissions.person_of(request.user, request.session)
        except Refused:
            return redirect_to_login(request.get_full_path())
        return view(request, person, *args, **kwargs)

    return wrapped


@require_http_methods(["GET", "HEAD", "POST"])
@with_person
def rooms(request: HttpRequest, person: permissions.Person) -> HttpResponseBase:
    """Show the rooms that the person may enter (`?search=`, `?before=` for more). POST opens or creates one by name."""
    search, before = request.GET.get("search", "").strip(), request.GET.get("before", "")
    try:
        page = room_list.page(person, search=search, before=before)
    except Refused:
        return redirect("chat:rooms")
    form = RoomForm(request.POST or None)
    status = 200
    if request.method == "POST" and form.is_valid():
        refused = _open(request, person, form.cleaned_data["name"])
        if refused is None:
            return redirect("chat:room", room_name=form.cleaned_data["name"])
        status, sentence = refused
        form.add_error("name", sentence)
    elif form.errors:
        status = 400
    context = {
        **_list_context(request, page, search, before),
        "form": form,
        "may_create": permissions.may_create(person),
        "page": _page_data(person, search=search, before=before),
    }
    return render(request, "chat/rooms.html", context, status=status)


@require_safe
@with_person
def room(request: HttpRequest, person: permissions.Person, room_name: str) -> HttpResponseBase:
    """Show a room. Its events come over the WebSocket, which also creates a room that never existed."""
    found = permissions.open_to(person).filter(name=room_name).first()
    if found is None:
        if Room.objects.filter(name=room_name).exists():
            return _no_access(request, room_name, 403)
        may_create = permissions.may_create(person)
        deleted = DeletedName.objects.filter(name=room_name).exists()
        if deleted or not may_create:
            return _no_access(request, room_name, 404, may_create=may_create)
    title = str(found or room_name)
    page = {
        **_page_data(person),
        "room": room_name,
        "socket": f"/ws/chat/{room_name}/",
        "history": reverse("chat:history", kwargs={"room_name": room_name}),
        "rooms": reverse("chat:rooms"),
        "login": f"{reverse(settings.LOGIN_URL)}?{urlencode({'next': request.path})}",
        "limit": settings.CHANNELBOX_MESSAGE_MAX,
    }
    listed = room_list.page(person).rooms
    context = {
        "room": found,
        "room_name": room_name,
        "listed": room_name in {other.name for other in listed},
        "title": title,
        "rooms": listed,
        "page": page,
    }
    return render(request, "chat/room.html", context)


@async_to_sync
async def _admit_new_room(person: permissions.Person, source: Source) -> None:
    """Call `permissions.admit_new_room` on the event loop, which has the rate limits. Raises Refused."""
    permissions.admit_new_room(person, source)


@async_to_sync
async def _refund_new_room(person: permissions.Person, source: Source) -> None:
    """Call `permissions.refund_new_room` on the event loop."""
    permissions.refund_new_room(person, source)


def _open(request: HttpRequest, person: permissions.Person, name: str) -> "tuple[int, StrPromise | str] | None":
    """Create the room if there is none. Return the status and sentence of a refusal, or None."""
    if permissions.open_to(person).filter(name=name).exists():
        return None
    if not permissions.may_create(person):
        return 400, _(
            "This room does not exist or you don't have access to it. You don't have permission to create rooms. "
            "Check the name, or contact your administrator."
        )
    if Room.objects.filter(name=name).exists():  # the page of the room says why it is closed
        return None
    source = Source(network(request.META.get("REMOTE_ADDR", "")), person.key)
    try:
        _admit_new_room(person, source)
    except Refused as refused:
        return 429, str(refused)
    made: set[str] = set()
    try:
        made = permissions.make([name], explicit=True)
    except Refused:
        return 503, _("The room cannot be created right now. Try again in a moment.")
    finally:
        if not made:
            _refund_new_room(person, source)
    return None


def _list_context(request: HttpRequest, page: room_list.Page, search: str, before: str) -> dict[str, object]:
    """Return the template context of a page of the room list, with the link to the next one."""
    more = {"search": search, "before": page.next}
    return {
        "rooms": page.rooms,
        "search": search,
        "further": bool(before),
        "more": urlencode({word: value for word, value in more.items() if value}) if page.next else "",
        "searchable": search or before or page.next or len(page.rooms) >= MIN_SEARCHABLE,
    }


def _page_data(person: permissions.Person, **which: str) -> dict[str, object]:
    """Return the data for the scripts of both pages. `which`: the part of the list that is shown."""
    query = urlencode({word: value for word, value in which.items() if value})
    listed = reverse("chat:list") + (f"?{query}" if query else "")
    return {
        "person": person.user_id or "guest",
        "name": person.name,
        "list": listed,
        "version": package_version(),  # the scripts notice when another one answers
        "words": ui_strings.catalogue(),
    }


def _no_access(request: HttpRequest, room_name: str, status: int, may_create: bool = False) -> HttpResponse:
    context = {"room_name": room_name, "missing": status == 404, "may_create": may_create}
    return render(request, "chat/closed.html", context, status=status)
