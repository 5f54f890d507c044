"""Content-Security-Policy for every response, and the template context about the installation."""

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from channelbox.dashboard.access import may_view

# No inline script, nothing from elsewhere. 'self' covers WebSockets of the same origin in every browser since 2022.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
)


class ContentSecurityPolicyMiddleware:
    """Middleware that sets Content-Security-Policy on every response that has none."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        response = self.get_response(request)
        if isinstance(response, HttpResponseBase):
            return self._mark(response)
        return self._later(response)

    async def _later(self, response: Awaitable[HttpResponseBase]) -> HttpResponseBase:
        return self._mark(await response)

    def _mark(self, response: HttpResponseBase) -> HttpResponseBase:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response


def installation(request: HttpRequest) -> dict[str, object]:
    """Return the template context: who runs this installation, and what this visitor may use."""
    return {
        "operator": settings.CHANNELBOX_OPERATOR,
        "guests_allowed": settings.CHANNELBOX_GUESTS,
        "dashboard_open": may_view(getattr(request, "user", AnonymousUser())),
    }
