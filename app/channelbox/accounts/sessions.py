"""Session middleware for HTTP requests."""

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware as DjangoSessionMiddleware
from django.http import HttpRequest

from channelbox.accounts.socket_auth import is_possible_key


class SessionMiddleware(DjangoSessionMiddleware):
    """Ignores a cookie that cannot be a session key: PostgreSQL raises an error for a text with a NUL character."""

    def process_request(self, request: HttpRequest) -> None:
        if not is_possible_key(request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")):
            request.COOKIES.pop(settings.SESSION_COOKIE_NAME, None)
        super().process_request(request)
