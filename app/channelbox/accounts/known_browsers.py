"""Browsers in which somebody has signed in before: a signed cookie that names whom, and lasts when the session ends.

It lets nobody in. It keeps the attempts of this browser apart from those of strangers (throttle.py).
"""

import hashlib
import secrets

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from channelbox.accounts.throttle import normalized

COOKIE = "channelbox_browser"
SALT = "channelbox.accounts.known_browsers"
AGE_SECONDS = 180 * 24 * 3600  # from the last sign-in
MAX_NAMES = 8  # of one browser: of a workstation that people share, the last ones


def known_as(request: HttpRequest, name: str) -> str | None:
    """How this browser is known where this name has signed in here before; None where it has not."""
    return _names(request).get(_digest(name))


def remember(request: HttpRequest, response: HttpResponse, name: str) -> None:
    """This name has just signed in here."""
    names = _names(request)
    known = names.pop(_digest(name), None) or secrets.token_urlsafe(12)
    newest = dict([*names.items(), (_digest(name), known)][-MAX_NAMES:])
    response.set_cookie(
        COOKIE,
        signing.dumps(newest, salt=SALT),
        max_age=AGE_SECONDS,
        path=reverse("accounts:login"),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _names(request: HttpRequest) -> dict[str, str]:
    """How the browser is known, by the digest of the name; the last that signed in is the last."""
    try:
        names: dict[str, str] = signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=AGE_SECONDS)
    except signing.BadSignature:
        return {}
    return names


def _digest(name: str) -> str:
    return hashlib.sha256(normalized(name).encode()).hexdigest()[:16]
