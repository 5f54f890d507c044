"""What was said in a room, over HTTP: for scrolling back, and for programs."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from channelbox.chat import events, rights
from channelbox.chat.models import Event, Room
from channelbox.realtime.codes import Code, Refused

PAGE = 50
PAGE_MAX = 200
STATUS = {Code.SIGN_IN: 401, Code.INVALID: 400}


@never_cache
@require_safe
def history(request: HttpRequest, room_name: str) -> JsonResponse:
    """``?before=<seq>``, ``?after=<seq>``, ``?limit=`` (50, at most 200): ``{"messages": [...]}``, oldest first.

    Without `before` and `after`: the newest. The messages are those of the socket. Errors are the socket's too, as
    ``{"error": "...", "code": "..."}``: 401 sign_in, 403 not_allowed, 400 invalid.
    """
    try:
        room = _room(rights.person_of(request.user, request.session), room_name)
        found = _read(room, *(_number(request, name) for name in ("before", "after", "limit")))
    except Refused as refused:
        return JsonResponse(refused.frame, status=STATUS.get(refused.code, 403))
    return JsonResponse({"messages": [events.content(event) for event in found]})


def _room(person: rights.Person, name: str) -> Room:
    room = rights.open_to(person).filter(name=name).first()
    if room is None:
        raise Refused(Code.NOT_ALLOWED, f"There is no room {name} for you.")
    return room


def _read(room: Room, before: int | None, after: int | None, limit: int | None) -> list[Event]:
    limit = min(limit or PAGE, PAGE_MAX)
    found = Event.objects.filter(room=room, kind="message")
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
