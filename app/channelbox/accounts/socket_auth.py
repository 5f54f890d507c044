"""Session and user of a WebSocket connection, looked up for many connections at once.

Replaces Channels' session and authentication middleware, which take two queries and two thread calls for each
connection.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.http import parse_cookie
from django.utils import timezone

from channelbox.accounts.models import User
from channelbox.accounts.revocation import belongs, decoded, proof_of
from channelbox.realtime.batch_loader import BatchLoader
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Close, Code, Refused
from channelbox.realtime.join_deadline import deadline_of
from channelbox.realtime.origin_check import Refusal

logger = logging.getLogger(__name__)

MAX_KEY = 40  # characters, as in the database's column


class ValidSession(NamedTuple):
    """A valid session and its user."""

    session: SessionStore
    user: User | AnonymousUser
    proof: int | None = None  # for the grant of a connection (revocation.py)


class Unavailable(Refusal):
    """Refuses connections while sessions cannot be looked up."""

    refused = Refused(
        Code.TRY_LATER, "Your sign-in cannot be checked right now. Try again.", retry_after=2, close=Close.TRY_LATER
    )


class SocketAuth:
    """ASGI middleware: sets `session`, `user` and `proof` of the scope. An invalid session counts as none.

    Refuses with `try_later` while the database cannot be queried.
    """

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        key = session_key(scope["headers"])
        try:
            async with asyncio.timeout_at(deadline_of(scope)):
                found = await _loader().get(key) if key else None
        except Exception as error:
            logger.warning("Refusing WebSockets because sessions cannot be looked up: %r", error)
            return await Unavailable.as_asgi()(scope, receive, send)
        session, user, proof = found or ValidSession(_session(None, {}), AnonymousUser())
        who = {"session": session, "user": user, "proof": proof}
        return await self.application({**scope, **who}, receive, send)


def session_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the session key in the Cookie header, as Django reads it; None if there is none, or an impossible one."""
    for name, value in headers:
        if name == b"cookie":
            key = parse_cookie(value.decode("latin1")).get(settings.SESSION_COOKIE_NAME, "")
            # Keys are looked up together: one that the database rejects would fail the others too.
            return key if is_possible_key(key) else None
    return None


def is_possible_key(key: str) -> bool:
    """Return whether this can be the key of a session: up to MAX_KEY ASCII letters and digits."""
    return key.isascii() and key.isalnum() and len(key) <= MAX_KEY


def valid_sessions(keys: list[str]) -> dict[str, ValidSession]:
    """Return the valid sessions among these, by key, with two queries in all. Blocks: call it in a thread."""
    stored = Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    raw = dict(stored.values_list("session_key", "session_data"))
    contents = {key: decoded(content) for key, content in raw.items()}
    ids = {content[SESSION_KEY] for content in contents.values() if SESSION_KEY in content}
    users = {str(user.pk): user for user in User.objects.filter(pk__in=ids, is_active=True)} if ids else {}
    found = {}
    for key, content in contents.items():
        if SESSION_KEY not in content:
            found[key] = ValidSession(_session(key, content), AnonymousUser())
        elif (user := users.get(content[SESSION_KEY])) is not None and belongs(content, user):
            found[key] = ValidSession(_session(key, content), user, proof_of(raw[key], user.password))
    return found


def _session(key: str | None, content: Mapping[str, Any]) -> SessionStore:
    session = SessionStore(key)
    session._session_cache = dict(content)  # type: ignore[attr-defined]  # already loaded
    return session


def _loader() -> BatchLoader[str, ValidSession]:
    """Return the loader of the running event loop."""
    return Bus.current().share(
        SocketAuth, lambda: BatchLoader(database_sync_to_async(valid_sessions, thread_sensitive=False))
    )
