"""The rooms and what was said in them, over HTTP: for scrolling back, and for programs."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, JsonResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from channelbox.chat import rights
from channelbox.chat.events import content, moment
from channelbox.chat.kinds import SPOKEN
from channelbox.chat.models import Event, Room
from channelbox.realtime.codes import Code, Refused

PAGE = 50
PAGE_MAX = 200
STATUS = {Code.SIGN_IN: 401, Code.INVALID: 400}


@never_cache
@require_safe
def rooms(request: HttpRequest) -> JsonResponse:
    """The rooms that one may enter, newest activity first, at most 200. ``seq``: the newest number."""
    try:
        person = rights.person_of(request.user, request.session)
    except Refused as refused:
        return JsonResponse(refused.frame, status=STATUS[refused.code])
    listed = [
        {
            "name": room.name,
            "title": room.title,
            "url": reverse("chat:room", kwargs={"room_name": room.name}),
            "members_only": room.members_only,
            "seq": room.last_seq,
            "changed_at": moment(room.changed_at),
        }
        for room in rights.newest_first(person)
    ]
    return JsonResponse({"rooms": listed})


@never_cache
@require_safe
def messages(request: HttpRequest, room_name: str) -> JsonResponse:
    """What is to be shown: messages and announcements, removed ones without their text. ``{"messages": [...]}``."""
    return _answer(request, room_name, "messages", kind__in=SPOKEN)


@never_cache
@require_safe
def events(request: HttpRequest, room_name: str) -> JsonResponse:
    """Every event, of every kind, without a hole: for who keeps a copy. ``{"events": [...]}``."""
    return _answer(request, room_name, "events")


def _answer(request: HttpRequest, room_name: str, name: str, **which: Any) -> JsonResponse:
    """``?before=<seq>``, ``?after=<seq>``, ``?limit=`` (50, at most 200), oldest first.

    Without `before` and `after`: the newest. Each is as on the socket. Errors are the socket's too, as
    ``{"error": "...", "code": "..."}``: 401 sign_in, 403 not_allowed, 400 invalid.
    """
    try:
        room = _room(rights.person_of(request.user, request.session), room_name)
        numbers = (_number(request, word) for word in ("before", "after", "limit"))
        found = _read(Event.objects.filter(room=room, **which), *numbers)
    except Refused as refused:
        return JsonResponse(refused.frame, status=STATUS.get(refused.code, 403))
    return JsonResponse({name: [content(event) for event in found]})


def _room(person: rights.Person, name: str) -> Room:
    room = rights.open_to(person).filter(name=name).first()
    if room is None:
        raise Refused(Code.NOT_ALLOWED, f"There is no room {name} for you.")
    return room


def _read(found: QuerySet[Event], before: int | None, after: int | None, limit: int | None) -> list[Event]:
    limit = min(limit or PAGE, PAGE_MAX)
    if before is not None:
        found = found.filter(seq__lt=before)
    if after is not None:
        return list(found.filter(seq__gt=after).order_by("seq")[:limit])
    return list(found.order_by("-seq")[:limit])[::-1]


def _number(request: HttpRequest, name: str) -> int | None:
    word = request.GET.get(name)
    if word is None:
        return None
    # As in the socket's ?after=: digits that fit into the database's numbers.
    if not (word.isascii() and word.isdigit() and len(word) < 19):
        raise Refused(Code.INVALID, f"{name} is a whole number.")
    return int(word)
