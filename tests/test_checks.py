"""System checks report each problem with a remedy, and nothing for a correct installation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import ERROR, WARNING
from pytest_django import Settings
from tests.support.servers import RedisServer

from channelbox import checks
from channelbox.realtime import sync_redis

POSTGRESQL = "channelbox.postgresql"
SQLITE = "django.db.backends.sqlite3"
MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.fixture(autouse=True)
def correct_cluster(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up the settings of a production cluster, as the roles do."""
    settings.PRODUCTION = True
    settings.DEBUG = False
    settings.SECRET_KEY = "0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMN"
    settings.ALLOWED_HOSTS = ["chat.example.org", "192.0.2.10", "[2001:db8::1]", "localhost"]
    settings.CHANNELBOX_ORIGINS = ["https://chat.example.org", "https://192.0.2.10:8443", "https://[2001:db8::1]"]
    settings.CHANNELBOX_NODES = 3
    settings.CHANNELBOX_UNKNOWN = []
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", POSTGRESQL)


def test_a_correct_cluster_gives_no_messages() -> None:
    assert checks.settings_checks(None) == []


@pytest.mark.parametrize(
    ("id", "changes", "word"),
    [
        ("E001", {"DEBUG": True}, "DEBUG"),
        ("E002", {"CHANNEL_LAYERS": MEMORY}, "in memory"),
        ("E005", {"SECRET_KEY": "channelbox-insecure-secret-for-development-only"}, "default"),
        ("E005", {"SECRET_KEY": "0123456789-abcdefghijklmnopqrstuvwxyz"}, "short"),
        ("E005", {"SECRET_KEY": "ab" * 40}, "repetitive"),
        ("E005", {"SECRET_KEY_FALLBACKS": ["old"]}, "CHANNELBOX_SECRET_KEY_FALLBACKS"),
        ("E006", {"ALLOWED_HOSTS": []}, "empty"),
        ("E007", {"ALLOWED_HOSTS": ["*"]}, "'*'"),
        ("E008", {"ALLOWED_HOSTS": ["chat.example.org:8443"]}, "8443"),
        ("E008", {"ALLOWED_HOSTS": ["https://chat.example.org"]}, "https://chat"),
        ("E008", {"ALLOWED_HOSTS": ["2001:db8::1"]}, "2001:db8::1"),
        ("E009", {"CHANNELBOX_ORIGINS": ["chat.example.org"]}, "is not an origin"),
        ("E009", {"CHANNELBOX_ORIGINS": ["https://chat.example.org/"]}, "is not an origin"),
        ("E009", {"CHANNELBOX_ORIGINS": ["wss://chat.example.org"]}, "is not an origin"),
        ("E009", {"CHANNELBOX_ORIGINS": ["https://[chat"]}, "is not an origin"),
        ("E009", {"CHANNELBOX_ORIGINS": ["https://*"]}, "more than one"),
        ("E009", {"CHANNELBOX_ORIGINS": ["https://.example.org"]}, "more than one"),
        ("E010", {"CHANNELBOX_REDIS_URL": ["127.0.0.1:6379"]}, "not a Redis URL"),
        ("E011", {"CHANNELBOX_MESSAGE_MAX": 20_000}, "241024"),
        ("E012", {"CHANNELBOX_FRAME_MAX": 8 * 1024 * 1024}, "CHANNELBOX_SLOW_READER_BYTES"),
        ("E013", {"CHANNELBOX_UNKNOWN": [("CHANNELBOX_ROM_LIMIT", None)]}, "CHANNELBOX_ROM_LIMIT"),
        ("W001", {"CHANNELBOX_ORIGINS": ["http://chat.example.org"]}, "plain http"),
        ("W002", {"CHANNELBOX_ORIGIN_REQUIRED": False}, "no Origin"),
        ("W003", {"CHANNELBOX_RATE_BURST": 5}, "CHANNELBOX_RATE_BURST"),
        ("W004", {"CHANNELBOX_WORK_EXPIRY": 7.0, "CHANNELBOX_DRAIN_SECONDS": 0}, "7 s"),
        ("W006", {"CHANNELBOX_DRAIN_SECONDS": 30.0}, "38 s to stop"),
    ],
)
def test_each_wrong_setting_is_reported_with_a_remedy(
    settings: Settings, id: str, changes: dict[str, Any], word: str
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    (message,) = checks.settings_checks(None)
    assert message.id == f"channelbox.{id}"
    assert message.level == (ERROR if id.startswith("E") else WARNING)
    assert word in message.msg
    assert message.hint


@pytest.mark.parametrize("unit", ["channelbox-web@.service", "channelbox-worker@.service"])
def test_stop_timeout_of_the_units_matches_the_check(unit: str) -> None:
    text = (Path(__file__).parents[1] / "packaging" / "debian" / "units" / unit).read_text()
    assert f"\nTimeoutStopSec={checks.STOP_SECONDS}\n" in text


def test_several_nodes_may_not_share_sqlite(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", SQLITE)
    (message,) = checks.settings_checks(None)
    assert message.id == "channelbox.E003"
    assert "3 nodes" in message.msg
    assert message.hint and "PostgreSQL" in message.hint


def test_one_node_may_use_sqlite(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", SQLITE)
    settings.CHANNELBOX_NODES = 1
    assert checks.settings_checks(None) == []


def test_other_databases_are_not_supported(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.mysql")
    (message,) = checks.settings_checks(None)
    assert message.id == "channelbox.E004"
    assert "mysql" in message.msg


def test_the_nearest_name_is_suggested(settings: Settings) -> None:
    settings.CHANNELBOX_UNKNOWN = [("CHANNELBOX_ROM_LIMIT", "CHANNELBOX_ROOM_LIMIT")]
    (message,) = checks.settings_checks(None)
    assert message.hint == "Did you mean CHANNELBOX_ROOM_LIMIT?"


def test_passwords_are_not_shown(settings: Settings) -> None:
    settings.CHANNELBOX_REDIS_URL = ["http://:open-sesame@redis:6379"]
    (message,) = checks.settings_checks(None)
    assert "open-sesame" not in checks.describe(message)


def test_production_refuses_to_start_with_an_error(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    settings.DEBUG = True
    with pytest.raises(SystemExit) as end:
        checks.refuse_in_production()
    assert end.value.code == 1
    output = capsys.readouterr().err
    assert "channelbox.E001: DEBUG is on" in output
    assert "Remove CHANNELBOX_DEBUG" in output


def test_production_starts_with_warnings_and_prints_them(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.CHANNELBOX_ORIGIN_REQUIRED = False
    settings.CHANNELBOX_UNKNOWN = [("CHANNELBOX_X", None)]
    checks.refuse_in_production()
    output = capsys.readouterr().err
    assert "channelbox.W002" in output
    assert "channelbox.E013" in output


def test_development_starts_despite_errors(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    settings.PRODUCTION = False
    settings.DEBUG = True
    checks.refuse_in_production()
    assert capsys.readouterr().err == ""


# --- Checks of running servers


@pytest.fixture
def use_redis(settings: Settings) -> Any:
    def use(server: RedisServer) -> None:
        settings.CHANNELBOX_REDIS_HOSTS = [{"address": server.url}]
        sync_redis.clients.cache_clear()

    yield use
    sync_redis.clients.cache_clear()


def test_redis_without_eviction_is_accepted(use_redis: Any, redis_server: RedisServer) -> None:
    use_redis(redis_server)
    assert list(checks.redis_answers()) == []


def test_redis_with_eviction_gives_a_warning(use_redis: Any, new_redis: Callable[..., RedisServer]) -> None:
    use_redis(new_redis("--maxmemory-policy", "allkeys-lru"))
    (message,) = checks.redis_answers()
    assert message.id == "channelbox.W005"
    assert "allkeys-lru" in message.msg
    assert message.hint and "noeviction" in message.hint


def test_an_unreachable_redis_is_an_error(use_redis: Any, new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    use_redis(server)
    server.stop()
    (message,) = checks.redis_answers()
    assert message.id == "channelbox.E014"
    assert message.hint


@pytest.mark.django_db
def test_a_migrated_database_is_accepted() -> None:
    assert list(checks.database_answers()) == []


@pytest.mark.django_db
def test_missing_migrations_are_an_error() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'chat'")
    (message,) = checks.database_answers()
    assert message.id == "channelbox.E016"
    assert message.hint == "Run: channelbox migrate"
