"""The rooms and what was said in them, over HTTP: for scrolling back, and for programs."""

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
from channelbox.chat.serializers import content, moment
from channelbox.realtime.errors import Code, Refused
from channelbox.version import PROTOCOL, package_version

logger = logging.getLogger(__name__)

P = ParamSpec("P")

VERSIONS: dict[str, object] = {"protocol": PROTOCOL, "version": package_version()}
PAGE = 50
PAGE_MAX = 200
METHODS = ("GET", "HEAD")
STATUS = {Code.SIGN_IN: 401, Code.INVALID: 400, Code.NO_ROOM: 404, Code.TRY_LATER: 503}  # others: 403


def answers_json(
    view: Callable[Concatenate[HttpRequest, P], dict[str, object]],
) -> Callable[Concatenate[HttpRequest, P], JsonResponse]:
    """Make what a view returns, and whatever goes wrong in it, JSON. Errors are as on the socket: `error` and `code`.

    It only reads, so it asks for no CSRF token, and every other method is answered with 405.
    """

    @csrf_exempt
    @never_cache
    @wraps(view)
    def wrapped(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> JsonResponse:
        if request.method not in METHODS:
            refused = Refused(Code.INVALID, f"Only {' and '.join(METHODS)} are answered here.")
            return JsonResponse(refused.frame, status=405, headers={"Allow": ", ".join(METHODS)})
        try:
            return JsonResponse(view(request, *args, **kwargs))
        except Refused as refused:
            return JsonResponse(refused.frame, status=STATUS.get(refused.code, 403))
        except SuspiciousOperation as error:
            logger.warning("A request to %s is refused: %s", request.path, error)
            return _error(Code.INVALID, "This request cannot be understood.", 400)
        except (OperationalError, InterfaceError) as error:
            logger.error("The database cannot be used for %s: %s", request.path, error)
            return _error(Code.TRY_LATER, "The database does not answer. Try again.", 503)
        except Exception:
            logger.exception("%s failed", request.path)
            return _error(Code.TRY_LATER, "Something went wrong here. Try again.", 500)

    return wrapped


def _error(code: Code, sentence: str, status: int) -> JsonResponse:
    return JsonResponse(Refused(code, sentence).frame, status=status)


@answers_json
def rooms(request: HttpRequest) -> dict[str, object]:
    """The rooms that one may enter. `?search=` in names and titles, `?limit=` (200, at most 200).

    `next`: what `?before=` takes for those that follow, null when there are none. A room's `seq`: its newest number.
    """
    person = permissions.person_of(request.user, request.session)
    search, before = (request.GET.get(word, "") for word in ("search", "before"))
    limit = min(_number(request, "limit") or room_list.PAGE_MAX, room_list.PAGE_MAX)
    found = room_list.page(person, search=search, before=before, limit=limit)
    listed = [
        {
            "name": room.name,
            "title": room.title,
            "url": reverse("chat:room", kwargs={"room_name": room.name}),
            "members_only": room.members_only,
            "seq": room.last_seq,
            "epoch": room.full_epoch,
            "changed_at": moment(room.changed_at),
        }
        for room in found.rooms
    ]
    return {**VERSIONS, "rooms": listed, "next": found.next}


@answers_json
def messages(request: HttpRequest, room_name: str) -> dict[str, object]:
    """What is to be shown: messages and announcements, removed ones without their text. ``{"messages": [...]}``."""
    return _answer(request, room_name, "messages", kind__in=SPOKEN)


@answers_json
def events(request: HttpRequest, room_name: str) -> dict[str, object]:
    """Every event of every kind that is still there, for clients that keep a copy. ``{"events": [...]}``."""
    return _answer(request, room_name, "events")


@answers_json
def nothing(request: HttpRequest) -> dict[str, object]:
    """Every other address of the API."""
    raise Refused(Code.NO_ROOM, "There is nothing at this address.")


def _answer(request: HttpRequest, room_name: str, name: str, **which: Any) -> dict[str, object]:
    """``?before=<seq>``, ``?after=<seq>``, ``?limit=`` (50, at most 200), oldest first.

    Without `before` and `after`: the newest. Each is as on the socket.
    """
    room = _room(permissions.person_of(request.user, request.session), room_name)
    numbers = (_number(request, word) for word in ("before", "after", "limit"))
    found = _read(Event.objects.filter(room=room, seq__gte=room.floor, **which), *numbers)
    of_room = {"epoch": room.full_epoch, "floor": room.floor}
    return {**VERSIONS, **of_room, name: [content(event) for event in found]}


def _room(person: permissions.Person, name: str) -> Room:
    room = permissions.open_to(person).filter(name=name).first()
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
