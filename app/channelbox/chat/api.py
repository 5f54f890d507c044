"""What was said in a room, over HTTP: for scrolling back, and for programs."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from channelbox.chat.models import Event, Room
from channelbox.chat.views import known, may_enter

PAGE = 50
PAGE_MAX = 200


@never_cache
@require_safe
def history(request: HttpRequest, room_name: str) -> JsonResponse:
    """``?before=<seq>`` or ``?after=<seq>``, ``&limit=`` (50, at most 200): ``{"messages": [...]}``, oldest first."""
    if not known(request):
        return _error(401, "sign_in", "Sign in first")
    room = Room.objects.filter(name=room_name).first()
    if room is None or not may_enter(request, room):
        return _error(403, "not_allowed", "You may not enter this room")
    try:
        before, after, limit = (_number(request, name) for name in ("before", "after", "limit"))
    except ValueError:
        return _error(400, "invalid", "before, after and limit are whole numbers above zero")
    limit = min(limit or PAGE, PAGE_MAX)
    events = Event.objects.filter(room=room, kind="message")
    if before is not None:
        events = events.filter(seq__lt=before)
    if after is not None:
        found = list(events.filter(seq__gt=after).order_by("seq")[:limit])
    else:
        found = list(events.order_by("-seq")[:limit])[::-1]
    return JsonResponse({"messages": [_frame(event) for event in found]})


def _number(request: HttpRequest, name: str) -> int | None:
    if name not in request.GET:
        return None
    value = int(request.GET[name])
    if not 0 <= value < 2**63:
        raise ValueError
    return value


def _error(status: int, code: str, sentence: str) -> JsonResponse:
    return JsonResponse({"error": sentence, "code": code}, status=status)


def _frame(event: Event) -> dict[str, object]:
    return {
        "type": event.kind,
        "seq": event.seq,
        "id": event.client_id,
        "user": event.name,
        "message": event.text,
        "at": event.at.isoformat().replace("+00:00", "Z"),
    }
