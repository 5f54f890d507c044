"""JSON API over HTTP: the rooms and their events, for scrolling back and for programs."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.core.exceptions import SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.db.models import QuerySet
from django.http import HttpRequest, JsonResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from channelbox.chat import permissions, room_list
from channelbox.chat.event_kinds import SPOKEN
from channelbox.chat.models import Event, Room
from channelbox.chat.serializers import content, timestamp
from channelbox.realtime.errors import Code, Refused
from channelbox.version import PROTOCOL, package_version

logger = logging.getLogger(__name__)

P = ParamSpec("P")

VERSIONS: dict[str, object] = {"protocol": PROTOCOL, "version": package_version()}
PAGE_SIZE = 50
MAX_PAGE_SIZE = 200
METHODS = ("GET", "HEAD")
STATUS_CODES = {Code.SIGN_IN: 401, Code.INVALID: 400, Code.NO_ROOM: 404, Code.TRY_LATER: 503}  # others: 403


def json_view(
    view: Callable[Concatenate[HttpRequest, P], dict[str, object]],
) -> Callable[Concatenate[HttpRequest, P], JsonResponse]:
    """Decorate a view so that its result and all its errors are answered as JSON.

    Errors are as over the WebSocket: `error` and `code`. The view only reads, so no CSRF token is required; methods
    other than GET and HEAD are answered with 405.
    """

    @csrf_exempt
    @never_cache
    @wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> JsonResponse:
        if request.method not in METHODS:
            refused = Refused(Code.INVALID, f"Only {' and '.join(METHODS)} are allowed here.")
            return JsonResponse(refused.frame, status=405, headers={"Allow": ", ".join(METHODS)})
        try:
            return JsonResponse(view(request, *args, **kwargs))
        except Refused as refused:
            return JsonResponse(refused.frame, status=STATUS_CODES.get(refused.code, 403))
        except SuspiciousOperation as error:
            logger.warning("Refused a request to %s: %s", request.path, error)
            return _error(Code.INVALID, "The request is not valid.", 400)
        except (OperationalError, InterfaceError) as error:
            logger.error("Database error while answering %s: %s", request.path, error)
            return _error(Code.TRY_LATER, "The database is not responding. Try again.", 503)
        except Exception:
            logger.exception("%s failed", request.path)
            return _error(Code.TRY_LATER, "Something went wrong. Try again.", 500)

    return wrapped


def _error(code: Code, sentence: str, status: int) -> JsonResponse:
    return JsonResponse(Refused(code, sentence).frame, status=status)


@json_view
def rooms(request: HttpRequest) -> dict[str, object]:
    """List the rooms that the client may enter. `?search=` in names and titles, `?limit=` (200, at most 200).

    `next`: the value of `?before=` for the rooms that follow, null when there are none. A room's `seq`: the number of
    its newest event.
    """
    person = permissions.person_of(request.user, request.session)
    search, before = (request.GET.get(word, "") for word in ("search", "before"))
    limit = min(_number(request, "limit") or room_list.MAX_PAGE_SIZE, room_list.MAX_PAGE_SIZE)
    found = room_list.page(person, search=search, before=before, limit=limit)
    listed = [
        {
            "name": room.name,
            "title": room.title,
            "url": reverse("chat:room", kwargs={"room_name": room.name}),
            "members_only": room.members_only,
            "seq": room.last_seq,
            "epoch": room.full_epoch,
            "changed_at": timestamp(room.changed_at),
        }
        for room in found.rooms
    ]
    return {**VERSIONS, "rooms": listed, "next": found.next}


@json_view
def messages(request: HttpRequest, room_name: str) -> dict[str, object]:
    """List what is to be shown: messages and announcements, deleted ones without text. ``{"messages": [...]}``."""
    return _list_events(request, room_name, "messages", kind__in=SPOKEN)


@json_view
def events(request: HttpRequest, room_name: str) -> dict[str, object]:
    """List the events of every kind that still exist, for clients that keep a copy. ``{"events": [...]}``."""
    return _list_events(request, room_name, "events")


@json_view
def unknown_address(request: HttpRequest) -> dict[str, object]:
    """Answer every other address of the API."""
    raise Refused(Code.NO_ROOM, "There is no API endpoint at this address.")


def _list_events(request: HttpRequest, room_name: str, name: str, **which: Any) -> dict[str, object]:
    """Return events, oldest first: ``?before=<seq>``, ``?after=<seq>``, ``?limit=`` (50, at most 200).

    Without `before` and `after`: the newest. Each event is as over the WebSocket.
    """
    room = _room(permissions.person_of(request.user, request.session), room_name)
    numbers = (_number(request, word) for word in ("before", "after", "limit"))
    found = _read(Event.objects.filter(room=room, seq__gte=room.floor, **which), *numbers)
    of_room = {"epoch": room.full_epoch, "floor": room.floor}
    return {**VERSIONS, **of_room, name: [content(event) for event in found]}


def _room(person: permissions.Person, name: str) -> Room:
    room = permissions.open_to(person).filter(name=name).first()
    if room is None:
        raise Refused(Code.NOT_ALLOWED, f"Room {name} does not exist, or you don't have access to it.")
    return room


def _read(found: QuerySet[Event], before: int | None, after: int | None, limit: int | None) -> list[Event]:
    limit = min(limit or PAGE_SIZE, MAX_PAGE_SIZE)
    if before is not None:
        found = found.filter(seq__lt=before)
    if after is not None:
        return list(found.filter(seq__gt=after).order_by("seq")[:limit])
    return list(found.order_by("-seq")[:limit])[::-1]


def _number(request: HttpRequest, name: str) -> int | None:
    word = request.GET.get(name)
    if word is None:
        return None
    # As in ?after= of the WebSocket: digits that fit into the database's integers.
    if not (word.isascii() and word.isdigit() and len(word) < 19):
        raise Refused(Code.INVALID, f"{name} must be a whole number.")
    return int(word)
