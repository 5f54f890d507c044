"""System checks of the settings, Redis and the database. Each message has an id and its own remedy.

The checks in `SETTINGS` look at the settings alone; in production, web processes, workers and migrations refuse to
start on their errors (`refuse_in_production`). The checks in `LIVE` ask Redis and the database and are for `channelbox
check` only: a start must not depend on a server that may be back in a minute. `channelbox check` also runs Django's own
deployment checks.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

ENV_FILE = "/etc/channelbox/channelbox.env"
KEY_COMMAND = 'python3 -c "import secrets; print(secrets.token_urlsafe(50))"'

STOP_SECONDS = 30  # TimeoutStopSec= of channelbox-web@.service

Check = Callable[[], Iterator[CheckMessage]]


def debug() -> Iterator[CheckMessage]:
    if settings.DEBUG:
        yield Error(
            "DEBUG is on: error pages show source code, settings and submitted data.",
            hint=f"Remove CHANNELBOX_DEBUG from {ENV_FILE}.",
            id="channelbox.E001",
        )


def layer() -> Iterator[CheckMessage]:
    if settings.CHANNEL_LAYERS["default"]["BACKEND"] == "channels.layers.InMemoryChannelLayer":
        yield Error(
            "The channel layer is in memory: messages would not reach people in other processes.",
            hint=f"Remove CHANNELBOX_LAYER from {ENV_FILE}, or set it to redis.",
            id="channelbox.E002",
        )


def database() -> Iterator[CheckMessage]:
    engine = str(settings.DATABASES["default"]["ENGINE"])
    if engine == "django.db.backends.sqlite3":
        if settings.CHANNELBOX_NODES > 1:
            yield Error(
                f"{settings.CHANNELBOX_NODES} nodes cannot share a SQLite database, which is a file on one node.",
                hint="Set CHANNELBOX_DATABASE_URL to a PostgreSQL server, postgresql://user:password@host/database, "
                "or CHANNELBOX_NODES to 1.",
                id="channelbox.E003",
            )
    elif engine != "channelbox.postgresql":
        yield Error(
            f"The database {engine.rpartition('.')[2]} is not supported.",
            hint="Set CHANNELBOX_DATABASE_URL to sqlite:////path/to/file or postgresql://user:password@host/database.",
            id="channelbox.E004",
        )


def secret() -> Iterator[CheckMessage]:
    for name, value in [("CHANNELBOX_SECRET_KEY", settings.SECRET_KEY)] + [
        ("CHANNELBOX_SECRET_KEY_FALLBACKS", fallback) for fallback in settings.SECRET_KEY_FALLBACKS
    ]:
        if value == settings.DEFAULT_SECRET:
            problem = f"{name} is the default value, which is public: anybody could sign in as any user."
        elif len(value) < 50 or len(set(value)) < 10:
            problem = f"{name} is short or repetitive and can be guessed; it must have at least 50 characters."
        else:
            continue
        yield Error(
            problem,
            hint=f"Generate one with: {KEY_COMMAND}; write it to {ENV_FILE}, the same on every node. "
            "A new key signs everybody out.",
            id="channelbox.E005",
        )


def hosts() -> Iterator[CheckMessage]:
    if not settings.ALLOWED_HOSTS:
        yield Error(
            "CHANNELBOX_HOSTS is empty: every request would be refused.",
            hint=f"List the names and addresses that people use to reach this installation in {ENV_FILE}, "
            "e.g. CHANNELBOX_HOSTS=chat.example.org,192.0.2.10",
            id="channelbox.E006",
        )
    for host in settings.ALLOWED_HOSTS:
        if "*" in host:
            yield Error(
                f"CHANNELBOX_HOSTS contains {host!r}: requests for any host name would be accepted and trusted.",
                hint="List the names and addresses that people use to reach this installation.",
                id="channelbox.E007",
            )
        elif "/" in host or (":" in host and not (host.startswith("[") and host.endswith("]"))):
            yield Error(
                f"CHANNELBOX_HOSTS contains {host!r}, which is not a plain name or address and would never match.",
                hint="Leave out scheme, port and path. Put IPv6 addresses in brackets, e.g. [2001:db8::1].",
                id="channelbox.E008",
            )


def origins() -> Iterator[CheckMessage]:
    for origin in settings.CHANNELBOX_ORIGINS:
        try:
            parts = urlsplit(origin)
            bare = f"{parts.scheme}://{parts.netloc}" == origin.lower() and parts.port != 0
        except ValueError:
            bare = False
        if not bare or parts.scheme not in ("http", "https") or not parts.hostname or "@" in origin:
            problem = "is not an origin"
        elif "*" in origin or parts.hostname.startswith("."):
            problem = "stands for more than one origin"
        else:
            if parts.scheme == "http":
                yield Warning(
                    f"CHANNELBOX_ORIGINS contains {origin!r}: nobody can sign in over plain http, "
                    "because the session cookie is sent over https only.",
                    hint="Use https.",
                    id="channelbox.W001",
                )
            continue
        yield Error(
            f"CHANNELBOX_ORIGINS contains {origin!r}, which {problem} and would never match the WebSocket of a page.",
            hint="Write each origin as scheme, name and, unless it is the default, port, "
            "e.g. https://chat.example.org,https://192.0.2.10:8443. If CHANNELBOX_ORIGINS is not set, the origins are "
            "https:// and each of CHANNELBOX_HOSTS.",
            id="channelbox.E009",
        )
    if not settings.CHANNELBOX_ORIGIN_REQUIRED:
        yield Warning(
            "CHANNELBOX_ORIGIN_REQUIRED is off: programs that send no Origin header may open WebSockets.",
            hint=f"Remove it from {ENV_FILE} unless you use such programs.",
            id="channelbox.W002",
        )


def redis_addresses() -> Iterator[CheckMessage]:
    for url in settings.CHANNELBOX_REDIS_URL:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            yield Error(
                "CHANNELBOX_REDIS_URL contains a value that is not a Redis URL.",
                hint="Use redis://:password@host:6379/0, rediss:// for TLS, or unix:///path/to/socket?db=0. "
                "Separate several URLs with commas.",
                id="channelbox.E010",
            )


def limits() -> Iterator[CheckMessage]:
    # A character takes up to 12 bytes as JSON. The rest of the frame, with an id of 64 characters, is below 1 KiB.
    needed = settings.CHANNELBOX_MESSAGE_MAX * 12 + 1024
    if needed > settings.CHANNELBOX_FRAME_MAX:
        yield Error(
            f"A message of {settings.CHANNELBOX_MESSAGE_MAX} characters (CHANNELBOX_MESSAGE_MAX) can take {needed} "
            f"bytes, more than a frame may have (CHANNELBOX_FRAME_MAX, {settings.CHANNELBOX_FRAME_MAX}).",
            hint=f"Set CHANNELBOX_FRAME_MAX to {needed} or more, or lower CHANNELBOX_MESSAGE_MAX.",
            id="channelbox.E011",
        )
    if settings.CHANNELBOX_RATE_BURST < settings.CHANNELBOX_RATE:
        yield Warning(
            f"CHANNELBOX_RATE_BURST ({settings.CHANNELBOX_RATE_BURST}) is less than one second of CHANNELBOX_RATE "
            f"({settings.CHANNELBOX_RATE:g}), so nobody can reach that rate in bursts.",
            hint="Set CHANNELBOX_RATE_BURST to at least CHANNELBOX_RATE.",
            id="channelbox.W003",
        )
    if settings.CHANNELBOX_WORK_EXPIRY > 5:
        yield Warning(
            f"CHANNELBOX_WORK_EXPIRY is {settings.CHANNELBOX_WORK_EXPIRY:g} s: when a worker dies, its messages wait "
            "that long before they are sent again.",
            hint="3 is enough unless the database regularly takes longer than that.",
            id="channelbox.W004",
        )
    from channelbox.server import GRACE_SECONDS

    stopping = settings.CHANNELBOX_DRAIN_SECONDS + settings.CHANNELBOX_WORK_EXPIRY + GRACE_SECONDS
    if stopping > STOP_SECONDS:
        yield Warning(
            f"A web process may take {stopping:g} s to stop (CHANNELBOX_DRAIN_SECONDS plus CHANNELBOX_WORK_EXPIRY plus "
            f"{GRACE_SECONDS} s); systemd kills it after {STOP_SECONDS} s.",
            hint="Lower CHANNELBOX_DRAIN_SECONDS, or raise TimeoutStopSec= with: systemctl edit channelbox-web@",
            id="channelbox.W006",
        )
    if settings.CHANNELBOX_SLOW_READER_BYTES < settings.CHANNELBOX_FRAME_MAX:
        yield Error(
            "CHANNELBOX_SLOW_READER_BYTES is less than one frame (CHANNELBOX_FRAME_MAX): the first message could "
            "disconnect a client.",
            hint="Set it to several times CHANNELBOX_FRAME_MAX; the default is 4194304.",
            id="channelbox.E012",
        )


def unknown_variables() -> Iterator[CheckMessage]:
    for name, nearest in settings.CHANNELBOX_UNKNOWN:
        yield Error(
            f"There is no setting {name}, so it has no effect.",
            hint=f"Did you mean {nearest}?" if nearest else "Remove it; docs/settings.md lists all settings.",
            id="channelbox.E013",
        )


def redis_answers() -> Iterator[CheckMessage]:
    import redis

    from channelbox.realtime.sync_redis import clients

    for client in clients():
        try:
            memory: dict[str, Any] = client.info("memory")
        except redis.RedisError as error:
            yield Error(
                f"Redis does not respond: {error}",
                hint="On its node, run: systemctl start redis-server (on a single node: channelbox-redis), or correct "
                "CHANNELBOX_REDIS_URL. channelbox reconnects by itself; nothing has to be restarted.",
                id="channelbox.E014",
            )
            continue
        policy = memory.get("maxmemory_policy")
        if policy != "noeviction":
            yield Warning(
                f"Redis evicts data when its memory is full (maxmemory-policy {policy}), including queued messages and "
                "connection counts.",
                hint="Set maxmemory-policy noeviction in /etc/redis/redis.conf (on a single node: "
                "/etc/channelbox/redis.conf) and restart Redis. When Redis is full, senders then get an error.",
                id="channelbox.W005",
            )


def database_answers() -> Iterator[CheckMessage]:
    from django.db import DatabaseError, connection
    from django.db.migrations.executor import MigrationExecutor

    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        yield Error(
            f"The database does not respond: {str(error).strip()}",
            hint="Correct CHANNELBOX_DATABASE_URL, or start the database server and allow this node to connect.",
            id="channelbox.E015",
        )
        return
    if plan:
        yield Error(
            f"The database lacks migrations of this version. Missing: {len(plan)}.",
            hint="Run: channelbox migrate",
            id="channelbox.E016",
        )


SETTINGS: list[Check] = [
    debug,
    layer,
    database,
    secret,
    hosts,
    origins,
    redis_addresses,
    limits,
    unknown_variables,
]
# An unknown variable is reported but does not prevent a start: another version of this package may know it.
NOT_FATAL = {"channelbox.E013"}
LIVE: list[Check] = [redis_answers, database_answers]


def _run(checks: Sequence[Check]) -> list[CheckMessage]:
    return [message for check in checks for message in check() if not message.is_silenced()]


@register(deploy=True)
def settings_checks(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return _run(SETTINGS)


@register("live", deploy=True)
def live_checks(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return _run(LIVE)


def describe(message: CheckMessage) -> str:
    """Return a message as text for people: its id and sentence, and the remedy on the next line."""
    return f"{message.id}: {message.msg}" + (f"\n  {message.hint}" if message.hint else "")


def refuse_in_production() -> None:
    """Print what is wrong with the settings to standard error; exit on an error in production.

    Outside production only unknown variables are reported. Raises SystemExit with status 1 for an error in production
    that is not in `NOT_FATAL`.
    """
    found = _run(SETTINGS if settings.PRODUCTION else [unknown_variables])
    for message in found:
        print(f"channelbox: {describe(message)}", file=sys.stderr)  # noqa: T201 - before the first log line
    if any(message.is_serious() and message.id not in NOT_FATAL for message in found):
        print("channelbox: not started. Run `channelbox check` to see this again.", file=sys.stderr)  # noqa: T201
        raise SystemExit(1)
