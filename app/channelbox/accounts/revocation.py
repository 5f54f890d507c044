"""A socket outlives neither its session nor its user's rights.

Whoever changes a right says so on a channel that all web processes hear (`notify_after_commit`). Each then looks up in
the database which of its sockets are concerned and may stay; the word itself ends nothing. A word may be lost, or said
while a socket was just coming: so every socket is looked at once more within a second after it came, all of them when
Redis was away, and all of them once a minute.
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

NEW_SECONDS = 1.0
ALL_SECONDS = 60.0
MAX_SOCKETS = 500  # sockets in one look into the database
ENDS_AT_ONCE = 32  # sockets that are ended in one turn of the loop
MAX_LOGGED = 10  # users and rooms in one line of the log


@dataclass(eq=False, slots=True)
class SocketGrant:
    """What one socket's stay depends on. `end` tells it why it ends, and closes it.

    `room`: its key, its name and its epoch. `proof`: of the session and password that were found to belong together;
    while they are as they were, they do.
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
        """The grant of a socket that has been let in."""
        user, session = scope.get("user"), scope.get("session")
        pk = user.pk if user is not None else None
        return cls(end, pk, getattr(session, "session_key", None), room, scope.get("proof"))


# Looks into the database and returns who may not stay, and why. Runs in a thread.
Rule = Callable[[list[SocketGrant]], dict[SocketGrant, Refused]]


def sessions(grants: list[SocketGrant]) -> dict[SocketGrant, Refused]:
    """A rule: signed out, deactivated, removed, given a new password, or the session has expired."""
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
            # Decoding a session costs more than all else here: not for those, mostly all, that have not changed.
            if proof == grant.proof:
                continue
            if belongs(decoded(content), User(pk=grant.user, password=password)):
                grant.proof = proof
                continue
        ended[grant] = Refused(Code.SIGN_IN, "You are signed out. Sign in again.", close=Close.SIGN_IN)
    return ended


@functools.lru_cache(maxsize=2000)  # 1 KB each
def decoded(content: str) -> Mapping[str, Any]:
    """What a session's stored content says. Who comes back mostly has the same."""
    return MappingProxyType(SessionStore().decode(content))


def proof_of(content: str, password: str) -> int:
    """Of a session's stored content and a user's stored password. Good for this process alone."""
    return hash((content, password))


def belongs(session: Mapping[str, str], user: User | None) -> bool:
    """Whether a session's content is this user's, and was made with the password that the user has now."""
    if user is None or session.get(SESSION_KEY) != str(user.pk):
        return False
    given = session.get(HASH_SESSION_KEY, "")
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(given, good) for good in hashes)


rules: list[Rule] = [sessions]


@dataclass(frozen=True, slots=True)
class _Notice:
    """Publishes what one transaction has changed, once: the first of its notices that is called does it for all.

    A savepoint that is rolled back takes its own notices along, but no others. What it changed may be published all
    the same, which ends nothing.
    """

    words: set[str]

    def __call__(self) -> None:
        if self.words:
            _publish(self.words)
            self.words.clear()


def notify_after_commit(kind: str, *keys: int) -> None:
    """Have the sockets of each `user` or `room` (by primary key) looked at anew once this transaction is committed.

    Whatever one transaction changes is published together, so that a Redis that hangs is waited for once (1 s). Never
    raises RedisError: sockets whose notice is lost end within a minute.
    """
    notices = (notice for _, notice, *_ in transaction.get_connection().run_on_commit if isinstance(notice, _Notice))
    notice = next(notices, _Notice(set()))
    notice.words.update(f"{kind} {key}" for key in keys)
    transaction.on_commit(_Notice(notice.words))


def _publish(words: set[str]) -> None:
    """Publish each word, in one exchange with Redis."""
    pipeline = client(redis_keys.revoked()).pipeline(transaction=False)
    for word in words:
        pipeline.publish(redis_keys.revoked(), word)
    try:
        pipeline.execute()
    except redis.RedisError as error:
        some = ", ".join(sorted(words)[:MAX_LOGGED])
        more = f" and {len(words) - MAX_LOGGED} more" if len(words) > MAX_LOGGED else ""
        logger.warning(
            "WebSockets of %s%s will be closed within a minute instead of immediately: %s", some, more, error
        )


class RevocationMonitor:
    """The sockets of one event loop that may have to end."""

    def __init__(self) -> None:
        self.grants: set[SocketGrant] = set()
        # The same by primary key: a word costs as much as it concerns, however many are connected.
        self._by_user: defaultdict[int, set[SocketGrant]] = defaultdict(set)
        self._by_room: defaultdict[int, set[SocketGrant]] = defaultdict(set)
        self._due: set[SocketGrant] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @staticmethod
    def current() -> "RevocationMonitor":
        """The running loop's."""
        return Bus.current().share(RevocationMonitor, RevocationMonitor)

    def admit(self, grant: SocketGrant) -> None:
        """Watches over a socket from now on, until `leave`. One that depends on nothing may stay anyway."""
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
            bus.on_restored(self.look_at_all)
            bus.on_stop(self.stop)
            self._tasks = [
                supervise("revocation subscription", lambda: self._hear(bus)),
                supervise("revocation", self._run),
            ]

    def leave(self, grant: SocketGrant) -> None:
        """Forget a socket, if it is not forgotten yet."""
        if grant not in self.grants:
            return
        self.grants.remove(grant)
        if grant.user is not None:
            _discard(self._by_user, grant.user, grant)
        if grant.room is not None:
            _discard(self._by_room, grant.room[0], grant)

    def look_at_all(self) -> None:
        self._due |= self.grants
        self._wake.set()

    def look_at_room(self, key: int) -> None:
        """Look anew at the sockets in a room, by its primary key."""
        self._look_at(self._by_room, key)

    def _look_at(self, grants: Mapping[int, set[SocketGrant]], key: int) -> None:
        if concerned := grants.get(key):
            self._due |= concerned
            self._wake.set()

    async def stop(self) -> None:
        await cancel(*self._tasks)

    async def _hear(self, bus: Bus) -> None:
        await bus.subscribe(redis_keys.revoked(), self._heard)
        self.look_at_all()

    def _heard(self, payload: bytes) -> None:
        kind, _, key = payload.decode().partition(" ")
        if kind in ("user", "room") and key.isdigit():
            self._look_at(self._by_user if kind == "user" else self._by_room, int(key))

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
                await self._look(list(due))
            except Exception as error:
                # Whatever it was: who may stay has to be looked up again.
                logger.warning("Cannot look up who may stay connected, retrying: %s", error)
                self._due |= due
                await asyncio.sleep(NEW_SECONDS)

    async def _look(self, due: list[SocketGrant]) -> None:
        for start in range(0, len(due), MAX_SOCKETS):
            some = due[start : start + MAX_SOCKETS]
            for rule in rules:
                ended = await database_sync_to_async(rule, thread_sensitive=False)(some)
                await self._end(ended.items())

    async def _end(self, ended: Iterable[tuple[SocketGrant, Refused]]) -> None:
        for number, (grant, reason) in enumerate(ended, 1):
            if grant in self.grants:
                self.leave(grant)
                with contextlib.suppress(OSError):  # it is gone already
                    await grant.end(reason)
            if number % ENDS_AT_ONCE == 0:
                await asyncio.sleep(0)


def _discard(grants: dict[int, set[SocketGrant]], key: int, grant: SocketGrant) -> None:
    grants[key].discard(grant)
    if not grants[key]:
        del grants[key]
