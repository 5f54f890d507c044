"""Closes connections whose session has ended or whose user has lost a right.

A change of rights is published to all web processes (`notify_after_commit`). Each of them looks up in the database
which of the connections concerned may stay; the notice itself closes nothing. A notice may be lost, or published while
a connection is being opened. So every connection is checked once more within a second of opening, and all of them after
an outage of Redis and once a minute.
"""

import asyncio
import contextlib
import functools
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import redis
from channels.db import database_sync_to_async
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from channelbox.accounts.models import User
from channelbox.realtime import redis_keys
from channelbox.realtime.background_tasks import cancel, supervise
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Close, Code, Refused
from channelbox.realtime.sync_redis import client

logger = logging.getLogger(__name__)

NEW_SECONDS = 1.0  # within which a new connection is checked
ALL_SECONDS = 60.0  # between two checks of all connections
MAX_SOCKETS = 500  # connections that a rule is given at a time
MAX_CLOSED_PER_TURN = 32  # connections closed in one turn of the event loop
MAX_LOGGED = 10  # users and rooms named in one log line


@dataclass(eq=False, slots=True)
class SocketGrant:
    """The session, user and room that keep a connection open. `end` sends the client the reason and closes it.

    `room`: its primary key, its name and its epoch. `proof`: `proof_of` the session and the password that were last
    found to belong together. They still do while it is unchanged.
    """

    end: Callable[[Refused], Awaitable[None]]
    user: int | None = None
    session: str | None = None
    room: tuple[int, str, str] | None = None
    proof: int | None = None

    @classmethod
    def of(
        cls, scope: dict[str, Any], end: Callable[[Refused], Awaitable[None]], room: tuple[int, str, str] | None = None
    ) -> "SocketGrant":
        """Return the grant of a connection that has been admitted.

        `scope`: as `SocketAuth` has set it. `end`, `room`: see above; no `room` where it depends on none.
        """
        user, session = scope.get("user"), scope.get("session")
        pk = user.pk if user is not None else None
        return cls(end, pk, getattr(session, "session_key", None), room, scope.get("proof"))


# Returns which connections may not stay, and why, from the database. Runs in a thread.
Rule = Callable[[list[SocketGrant]], dict[SocketGrant, Refused]]


def sessions(grants: list[SocketGrant]) -> dict[SocketGrant, Refused]:
    """Rule: the user has signed out, was deactivated or removed or has a new password, or the session has expired."""
    grants = [grant for grant in grants if grant.user]
    users = User.objects.filter(pk__in={grant.user for grant in grants}, is_active=True)
    passwords = dict(users.values_list("pk", "password"))
    stored = Session.objects.filter(
        session_key__in={grant.session for grant in grants if grant.session}, expire_date__gt=timezone.now()
    )
    contents = dict(stored.values_list("session_key", "session_data"))
    ended = {}
    for grant in grants:
        content, password = contents.get(grant.session or ""), passwords.get(grant.user or 0)
        if content is not None and password is not None:
            proof = proof_of(content, password)
            # Decoding a session costs more than all else here, so the unchanged ones, which most are, are not decoded.
            if proof == grant.proof:
                continue
            if belongs(decoded(content), User(pk=grant.user, password=password)):
                grant.proof = proof
                continue
        ended[grant] = Refused(Code.SIGN_IN, "You are signed out. Sign in again.", close=Close.SIGN_IN)
    return ended


@functools.lru_cache(maxsize=2000)  # 1 KB each
def decoded(content: str) -> Mapping[str, Any]:
    """Return a session's stored content, decoded. Clients that reconnect mostly have the same content as before."""
    return MappingProxyType(SessionStore().decode(content))


def proof_of(content: str, password: str) -> int:
    """Return a hash of a session's stored content and a user's stored password. Valid in this process only."""
    return hash((content, password))


def belongs(session: Mapping[str, str], user: User | None) -> bool:
    """Return whether a session's content is this user's, and was made with the user's current password."""
    if user is None or session.get(SESSION_KEY) != str(user.pk):
        return False
    given = session.get(HASH_SESSION_KEY, "")
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(given, good) for good in hashes)


rules: list[Rule] = [sessions]


@dataclass(frozen=True, slots=True)
class _Notice:
    """Publishes the changes of one transaction once: the first of its notices that is called publishes for all.

    A savepoint that is rolled back discards its own notices, but no others. Its changes may be published all the same,
    which closes nothing.
    """

    changes: set[str]

    def __call__(self) -> None:
        if self.changes:
            _publish(self.changes)
            self.changes.clear()


def notify_after_commit(kind: str, *keys: int) -> None:
    """Have the connections of users or rooms checked by all web processes once this transaction is committed.

    `kind`: "user" or "room". `keys`: their primary keys. All changes of a transaction are published together, so that
    a Redis that hangs is waited for once (1 s). Never raises RedisError: connections whose notice is lost are closed
    within a minute.
    """
    notices = (notice for _, notice, *_ in transaction.get_connection().run_on_commit if isinstance(notice, _Notice))
    notice = next(notices, _Notice(set()))
    notice.changes.update(f"{kind} {key}" for key in keys)
    transaction.on_commit(_Notice(notice.changes))


def _publish(changes: set[str]) -> None:
    """Publish each change, in one round trip to Redis."""
    pipeline = client(redis_keys.revoked()).pipeline(transaction=False)
    for change in changes:
        pipeline.publish(redis_keys.revoked(), change)
    try:
        pipeline.execute()
    except redis.RedisError as error:
        some = ", ".join(sorted(changes)[:MAX_LOGGED])
        more = f" and {len(changes) - MAX_LOGGED} more" if len(changes) > MAX_LOGGED else ""
        logger.warning(
            "WebSockets of %s%s will be closed within a minute instead of immediately: %s", some, more, error
        )


class RevocationMonitor:
    """The connections of one event loop that may have to be closed."""

    def __init__(self) -> None:
        self.grants: set[SocketGrant] = set()
        # The same by primary key, so that a notice costs only as much as the connections that it concerns.
        self._by_user: defaultdict[int, set[SocketGrant]] = defaultdict(set)
        self._by_room: defaultdict[int, set[SocketGrant]] = defaultdict(set)
        self._due: set[SocketGrant] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @staticmethod
    def current() -> "RevocationMonitor":
        """Return the monitor of the running event loop."""
        return Bus.current().share(RevocationMonitor, RevocationMonitor)

    def admit(self, grant: SocketGrant) -> None:
        """Monitor a connection until `leave`. One that depends on neither a user nor a room is not monitored."""
        if grant.user is None and grant.room is None:
            return
        self.grants.add(grant)
        self._due.add(grant)
        if grant.user is not None:
            self._by_user[grant.user].add(grant)
        if grant.room is not None:
            self._by_room[grant.room[0]].add(grant)
        if not self._tasks:
            bus = Bus.current()
            bus.on_restored(self.check_all)
            bus.on_stop(self.stop)
            self._tasks = [
                supervise("revocation subscription", lambda: self._subscribe(bus)),
                supervise("revocation", self._run),
            ]

    def leave(self, grant: SocketGrant) -> None:
        """Stop monitoring a connection. Does nothing if it is not monitored."""
        if grant not in self.grants:
            return
        self.grants.remove(grant)
        if grant.user is not None:
            _discard(self._by_user, grant.user, grant)
        if grant.room is not None:
            _discard(self._by_room, grant.room[0], grant)

    def check_all(self) -> None:
        """Check all connections. Returns at once."""
        self._due |= self.grants
        self._wake.set()

    def check_room(self, key: int) -> None:
        """Check the connections in a room, by its primary key. Returns at once."""
        self._mark_due(self._by_room, key)

    def _mark_due(self, grants: Mapping[int, set[SocketGrant]], key: int) -> None:
        if concerned := grants.get(key):
            self._due |= concerned
            self._wake.set()

    async def stop(self) -> None:
        await cancel(*self._tasks)

    async def _subscribe(self, bus: Bus) -> None:
        await bus.subscribe(redis_keys.revoked(), self._on_notice)
        self.check_all()

    def _on_notice(self, payload: bytes) -> None:
        kind, _, key = payload.decode().partition(" ")
        if kind in ("user", "room") and key.isdigit():
            self._mark_due(self._by_user if kind == "user" else self._by_room, int(key))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        all_at = loop.time() + ALL_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NEW_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            if loop.time() >= all_at:
                all_at = loop.time() + ALL_SECONDS
                self._due |= self.grants
            due, self._due = self._due & self.grants, set()
            try:
                await self._check(list(due))
            except Exception as error:
                # Whatever the error, these connections have to be checked again.
                logger.warning("Cannot look up who may stay connected, retrying: %s", error)
                self._due |= due
                await asyncio.sleep(NEW_SECONDS)

    async def _check(self, due: list[SocketGrant]) -> None:
        for start in range(0, len(due), MAX_SOCKETS):
            some = due[start : start + MAX_SOCKETS]
            for rule in rules:
                ended = await database_sync_to_async(rule, thread_sensitive=False)(some)
                await self._close(ended.items())

    async def _close(self, ended: Iterable[tuple[SocketGrant, Refused]]) -> None:
        for number, (grant, reason) in enumerate(ended, 1):
            if grant in self.grants:
                self.leave(grant)
                with contextlib.suppress(OSError):  # it is closed already
                    await grant.end(reason)
            if number % MAX_CLOSED_PER_TURN == 0:
                await asyncio.sleep(0)


def _discard(grants: dict[int, set[SocketGrant]], key: int, grant: SocketGrant) -> None:
    grants[key].discard(grant)
    if not grants[key]:
        del grants[key]
