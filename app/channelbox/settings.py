"""Django settings. Everything in which installations may differ is a CHANNELBOX_* variable, read only here."""

import os
import socket
from pathlib import Path
from typing import Any

import dj_database_url

from channelbox.environment import Environment

PACKAGE = Path(__file__).resolve().parent

env = Environment("CHANNELBOX_")

# --- Installation: mode, secrets, nodes, hosts and origins

CHANNELBOX_MODE = env.choice("MODE", "production", ("production", "development"))
PRODUCTION = CHANNELBOX_MODE == "production"
DEBUG = env.flag("DEBUG", False)

DEFAULT_SECRET = "channelbox-insecure-secret-for-development-only"  # noqa: S105 - refused in production by a check
SECRET_KEY = env.text("SECRET_KEY", DEFAULT_SECRET)
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")

CHANNELBOX_NODE = env.text("NODE", socket.gethostname())
CHANNELBOX_INSTANCE = env.text("INSTANCE", f"shell@{os.getpid()}")
CHANNELBOX_NODES = env.integer("NODES", 1, 1, 10_000)
CHANNELBOX_OPERATOR = env.text("OPERATOR")

ALLOWED_HOSTS = env.words("HOSTS", [] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]"])
CHANNELBOX_ORIGINS = env.words("ORIGINS", [f"https://{host}" for host in ALLOWED_HOSTS])
CHANNELBOX_ORIGIN_REQUIRED = env.flag("ORIGIN_REQUIRED", True)
CSRF_TRUSTED_ORIGINS = [origin for origin in CHANNELBOX_ORIGINS if "://" in origin]

# --- Limits: whoever exceeds one gets an error. Without one, typing events are dropped, frames are read later, and
# connections that do not read are cut off.

CHANNELBOX_GUESTS = env.flag("GUESTS", False)
CHANNELBOX_ROOM_CREATION = env.choice("ROOM_CREATION", "users", ("anyone", "users", "staff"))
CHANNELBOX_DASHBOARD = env.choice("DASHBOARD", "users", ("users", "staff"))
CHANNELBOX_ROOM_LIMIT = env.integer("ROOM_LIMIT", 5000, 1, 1_000_000)
CHANNELBOX_ROOM_GUESTS = env.integer("ROOM_GUESTS", 90, 0, 100)
CHANNELBOX_HISTORY = env.integer("HISTORY", 50, 0, 500)
CHANNELBOX_MESSAGE_MAX = env.integer("MESSAGE_MAX", 4000, 1, 20_000)
CHANNELBOX_FRAME_MAX = env.integer("FRAME_MAX", 65_536, 1024, 16_777_216)
CHANNELBOX_RATE = env.number("RATE", 20, 0.1, 100_000)
CHANNELBOX_RATE_BURST = env.integer("RATE_BURST", 60, 1, 1_000_000)
CHANNELBOX_RATE_PERSON = env.number("RATE_PERSON", 2 * CHANNELBOX_RATE, 0.1, 100_000)
CHANNELBOX_RATE_ADDRESS = env.number("RATE_ADDRESS", 100 * CHANNELBOX_RATE, 0.1, 100_000)
# Enough for as many messages of maximum length as JSON, where a character takes at most 12 bytes (two \\u escapes).
CHANNELBOX_RATE_BYTES = env.integer(
    "RATE_BYTES", max(16_384, round(12 * CHANNELBOX_RATE * CHANNELBOX_MESSAGE_MAX)), 16_384, 10**12
)
CHANNELBOX_TYPING_PERSON = env.number("TYPING_PERSON", 1, 0.1, 100_000)
CHANNELBOX_TYPING_ADDRESS = env.number("TYPING_ADDRESS", 100 * CHANNELBOX_TYPING_PERSON, 0.1, 100_000)
CHANNELBOX_TYPING_ROOM = env.number("TYPING_ROOM", 5, 0.1, 100_000)
CHANNELBOX_JOINS_PERSON = env.number("JOINS_PERSON", 10, 0.1, 100_000)
CHANNELBOX_JOINS_ADDRESS = env.number("JOINS_ADDRESS", 2000, 0.1, 100_000)
CHANNELBOX_NEW_ROOMS_PERSON = env.number("NEW_ROOMS_PERSON", 60, 0.1, 100_000)
CHANNELBOX_NEW_ROOMS_ADDRESS = env.number("NEW_ROOMS_ADDRESS", 100 * CHANNELBOX_NEW_ROOMS_PERSON, 0.1, 100_000)
CHANNELBOX_REQUESTS_PERSON = env.number("REQUESTS_PERSON", 20, 0.1, 100_000)
CHANNELBOX_REQUESTS_ADDRESS = env.number("REQUESTS_ADDRESS", 100 * CHANNELBOX_REQUESTS_PERSON, 0.1, 100_000)
CHANNELBOX_REQUESTS_AT_ONCE = env.integer("REQUESTS_AT_ONCE", 2, 1, 1000)
CHANNELBOX_REQUESTS_WAITING = env.integer("REQUESTS_WAITING", 1000, 1, 100_000)
CHANNELBOX_SOCKETS_PERSON = env.integer("SOCKETS_PERSON", 100, 1, 1_000_000)
CHANNELBOX_SOCKETS_ADDRESS = env.integer("SOCKETS_ADDRESS", 25_000, 1, 1_000_000)
CHANNELBOX_SOCKETS_GUESTS = env.integer("SOCKETS_GUESTS", max(1, CHANNELBOX_SOCKETS_ADDRESS // 2), 1, 1_000_000)
CHANNELBOX_OUTBOX_MAX = env.integer("OUTBOX_MAX", 10_000, 1, 10_000_000)
CHANNELBOX_OUTBOX_BYTES = env.integer("OUTBOX_BYTES", 64 * 1024 * 1024, 1024 * 1024, 64 * 1024**3)
CHANNELBOX_OUTBOX_SECONDS = env.number("OUTBOX_SECONDS", 0.5, 0.1, 60)
# At least a catch-up on joining, which is sent in one write: less would cut off clients that reconnect.
CHANNELBOX_SLOW_READER_BYTES = env.integer("SLOW_READER_BYTES", 4 * 1024 * 1024, 2 * 1024 * 1024, 1024**3)
CHANNELBOX_CATCH_UP_BYTES = env.integer("CATCH_UP_BYTES", 256 * 1024 * 1024, 16 * 1024 * 1024, 64 * 1024**3)
CHANNELBOX_DRAIN_SECONDS = env.number("DRAIN_SECONDS", 3, 0, 60)

# --- Applications, middleware and templates

INSTALLED_APPS = [
    # Before channels, because both have a command runworker and the first one is used.
    "channelbox.work",
    "channels",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channelbox.realtime",
    "channelbox.accounts",
    "channelbox.monitoring",
    "channelbox.chat",
    "channelbox.dashboard",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "channelbox.security.ContentSecurityPolicyMiddleware",
    "channelbox.accounts.sessions.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "channelbox.urls"
ASGI_APPLICATION = "channelbox.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PACKAGE / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "channelbox.security.installation",
            ],
        },
    }
]

# --- Database: SQLite for one node, PostgreSQL for more

CHANNELBOX_DATABASE_POOL = env.integer("DATABASE_POOL", 8, 1, 500)
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.secret(
        "DATABASE_URL",
        "sqlite:////var/lib/channelbox/db.sqlite3",
        lambda url: dict(dj_database_url.parse(url)),
        "sqlite:////path/to/file or postgresql://user:password@host/database",
    )
}
CHANNELBOX_BACKUP_DIR = env.text("BACKUP_DIR")
CHANNELBOX_BACKUPS_KEPT = env.integer("BACKUPS_KEPT", 7, 1, 10_000)
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # Unless it is IMMEDIATE, a transaction that reads and then writes can fail at once, whatever the timeout.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
        DATABASES["default"]["ENGINE"] = "channelbox.postgresql"
    # A pool, because a new connection for each query costs 7 ms; timeouts, so that a lost server is noticed.
    DATABASES["default"]["CONN_MAX_AGE"] = 0
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        # A caller waits at most 3 s for a connection, less when the server is known to be unavailable.
        pool={"min_size": 1, "max_size": CHANNELBOX_DATABASE_POOL, "timeout": 3},
        connect_timeout=5,
        # A server that is cut off or has lost power sends nothing: unacknowledged data ends a connection after 10 s,
        # and while we wait for an answer, keepalives probe the server's kernel.
        tcp_user_timeout=10_000,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        application_name=f"channelbox {CHANNELBOX_INSTANCE}",
        # Only statements that ask for it are prepared (None would mean: not even those).
        prepare_threshold=2**31,
    )
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis and the channel layers

CHANNELBOX_REDIS_URL = env.words("REDIS_URL", ["unix:///run/redis/redis-server.sock?db=0"])
CHANNELBOX_REDIS_SENTINELS = env.addresses("REDIS_SENTINELS")
CHANNELBOX_REDIS_MASTER = env.text("REDIS_MASTER", "channelbox")
CHANNELBOX_REDIS_PASSWORD = env.text("REDIS_PASSWORD")
CHANNELBOX_REDIS_PREFIX = env.text("REDIS_PREFIX", "channelbox")
CHANNELBOX_LAYER = env.choice("LAYER", "redis", ("redis", "memory"))
CHANNELBOX_LAYER_CAPACITY = env.integer("LAYER_CAPACITY", 1500, 1, 1_000_000)
CHANNELBOX_LAYER_EXPIRY = env.number("LAYER_EXPIRY", 10, 1, 3600)
CHANNELBOX_WORK_CAPACITY = env.integer("WORK_CAPACITY", 1500, 1, 1_000_000)
CHANNELBOX_WORK_BYTES = env.integer("WORK_BYTES", 32 * 1024 * 1024, 1024 * 1024, 64 * 1024**3)
CHANNELBOX_WORK_EXPIRY = env.number("WORK_EXPIRY", 3, 1, 60)


def _redis_hosts() -> list[dict[str, object]]:
    # redis-py's default read timeout of 5 s is as long as channels_redis' own wait, so that idle receives would fail.
    # Without a timeout, a half-open connection would hang.
    common: dict[str, object] = {"socket_timeout": 15, "socket_connect_timeout": 5, "max_connections": 1000}
    if CHANNELBOX_REDIS_SENTINELS:
        password = {"password": CHANNELBOX_REDIS_PASSWORD} if CHANNELBOX_REDIS_PASSWORD else {}
        sentinel_options = {"socket_timeout": 3, "socket_connect_timeout": 3, **password}
        return [
            {
                "sentinels": CHANNELBOX_REDIS_SENTINELS,
                "master_name": CHANNELBOX_REDIS_MASTER,
                "sentinel_kwargs": sentinel_options,
                **password,
                **common,
            }
        ]
    return [{"address": url, **common} for url in CHANNELBOX_REDIS_URL]


CHANNELBOX_REDIS_HOSTS = _redis_hosts()
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channelbox.realtime.layer.ChannelLayer",
        "CONFIG": {
            "capacity": CHANNELBOX_LAYER_CAPACITY,
            "expiry": CHANNELBOX_LAYER_EXPIRY,
        },
    },
    "work": {
        "BACKEND": "channelbox.work.queue.WorkLayer",
        "CONFIG": {
            "capacity": CHANNELBOX_WORK_CAPACITY,
            "capacity_bytes": CHANNELBOX_WORK_BYTES,
            "expiry": CHANNELBOX_WORK_EXPIRY,
        },
    },
}
if CHANNELBOX_LAYER == "memory":
    # Only to demonstrate what goes wrong: its groups do not reach other processes. Production refuses it.
    CHANNEL_LAYERS["default"] = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {}}

# --- Users, passwords and sign-in

AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "chat:rooms"
LOGOUT_REDIRECT_URL = "accounts:login"
PASSWORD_HASHERS = ["channelbox.accounts.hashers.Argon2"]
# Failed sign-ins within a window (in seconds): from one address, which many people may share; with one name from one
# address; with one name from all addresses.
CHANNELBOX_SIGN_IN_ADDRESS = env.integer("SIGN_IN_ADDRESS", 300, 1, 100_000)
CHANNELBOX_SIGN_IN_NAME = env.integer("SIGN_IN_NAME", 10, 1, 1000)
CHANNELBOX_SIGN_IN_NAME_ANYWHERE = env.integer("SIGN_IN_NAME_ANYWHERE", 100, 1, 100_000)
CHANNELBOX_SIGN_IN_WINDOW = env.integer("SIGN_IN_WINDOW", 300, 1, 86_400)
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Cookies and security headers

SESSION_COOKIE_NAME = "channelbox_session"
CSRF_COOKIE_NAME = "channelbox_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 60 * 60 * 24 * 30
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# nginx redirects to https, because only it knows the ports. HSTS is left to the administrator: with a self-signed
# certificate or a bare address it locks people out. W009, W018 and W020 are reported by channelbox.checks, with the
# setting to change.
SILENCED_SYSTEM_CHECKS = [f"security.W{number}" for number in ("004", "008", "009", "018", "020", "021")]
X_FRAME_OPTIONS = "DENY"

# --- Static files, languages and time zone

STATIC_URL = "/static/"
STATIC_ROOT = env.text("STATIC_ROOT", "/usr/share/channelbox/static")
CHANNELBOX_SERVE_STATIC = env.flag("SERVE_STATIC", False)
STATICFILES_DIRS: list[tuple[str, Path] | Path] = [PACKAGE / "static"]
_vendor = Path(env.text("VENDOR_DIR", str(PACKAGE.parent.parent / "build" / "vendor")))
if _vendor.is_dir():
    STATICFILES_DIRS.append(("vendor", _vendor))

# In a language that is not complete, pages would be half translated: only what Django itself has translated.
LANGUAGES = [("en", "English")]
LANGUAGE_CODE = "en"
USE_I18N = True
USE_TZ = True
TIME_ZONE = env.text("TIME_ZONE", "UTC")

# --- Logging: to standard error, which is the journal

CHANNELBOX_LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"journal": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "channelbox.logs.Journal", "formatter": "journal"}},
    "root": {"handlers": ["stderr"], "level": CHANNELBOX_LOG_LEVEL},
    "loggers": {
        "django.server": {"handlers": ["stderr"], "propagate": False},
        "uvicorn.access": {"level": "WARNING"},
    },
}

CHANNELBOX_UNKNOWN = env.unknown()
