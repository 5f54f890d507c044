"""Signed cookie that identifies the users who have signed in with a browser before; it outlives the session.

It authenticates nobody. It keeps the sign-in attempts of this browser apart from those of strangers (throttle.py).
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
MAX_NAMES = 8  # for one browser; on a workstation that people share, the last ones


def identifier(request: HttpRequest, name: str) -> str | None:
    """Return this browser's identifier for a name that has signed in with it before; None for any other name."""
    return _names(request).get(_digest(name))


def remember(request: HttpRequest, response: HttpResponse, name: str) -> None:
    """Set the cookie on the response to a sign-in with this name."""
    names = _names(request)
    browser_id = names.pop(_digest(name), None) or secrets.token_urlsafe(12)
    newest = dict([*names.items(), (_digest(name), browser_id)][-MAX_NAMES:])
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
    """Return this browser's identifiers by the digest of the name, in the order of the last sign-ins."""
    try:
        names: dict[str, str] = signing.loads(request.COOKIES.get(COOKIE, ""), salt=SALT, max_age=AGE_SECONDS)
    except signing.BadSignature:
        return {}
    return names


def _digest(name: str) -> str:
    return hashlib.sha256(normalized(name).encode()).hexdigest()[:16]
