"""Settings: their types, error messages, effects and documentation."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

import channelbox
from channelbox.environment import Environment

APP = Path(channelbox.__file__).parent.parent
PAGE = APP.parent / "docs" / "settings.md"


def read(*names: str, **variables: str) -> dict[str, Any]:
    """Return the values of these settings with these variables and no others."""
    code = "import json, sys; from channelbox import settings as s; "
    code += "print(json.dumps({n: getattr(s, n) for n in sys.argv[1:]}, default=str))"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CHANNELBOX_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        env={**clean, "PYTHONPATH": str(APP), **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- Reading variables


@pytest.mark.parametrize("text", ["true", "True", "1", "yes", "on"])
def test_true_words_enable_a_flag(text: str) -> None:
    assert Environment("X_", {"X_A": text}).flag("A", False) is True


@pytest.mark.parametrize("text", ["false", "0", "No", "off"])
def test_false_words_disable_a_flag(text: str) -> None:
    assert Environment("X_", {"X_A": text}).flag("A", True) is False


def test_missing_and_blank_values_give_the_default() -> None:
    env = Environment("X_", {"X_A": "  "})
    assert env.integer("A", 7, 1, 9) == 7
    assert env.words("B", ["b"]) == ["b"]


def test_a_list_is_separated_by_commas() -> None:
    assert Environment("X_", {"X_A": " a, b ,,c"}).words("A") == ["a", "b", "c"]


def test_addresses_have_a_port() -> None:
    assert Environment("X_", {"X_A": "a:1, [::1]:2"}).addresses("A") == [("a", 1), ("::1", 2)]


@pytest.mark.parametrize(
    ("method", "arguments", "text", "takes"),
    [
        ("flag", (False,), "perhaps", "true or false"),
        ("integer", (7, 1, 9), "10", "a whole number from 1 to 9"),
        ("integer", (7, 1, 9), "1.5", "a whole number from 1 to 9"),
        ("number", (7, 0.5, 9), "0.4", "a number from 0.5 to 9"),
        ("number", (7, 0.5, 9), "nan", "a number from 0.5 to 9"),
        ("choice", ("a", ("a", "b")), "c", "one of a, b"),
        ("addresses", (), "host", "a list of host:port"),
        ("addresses", (), "host:http", "a list of host:port"),
    ],
)
def test_invalid_values_are_refused_with_the_expected_format(
    method: str, arguments: Any, text: str, takes: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=re.escape(f"X_A is '{text}', but must be {takes}.")):
        getattr(Environment("X_", {"X_A": text}), method)("A", *arguments)


def test_an_invalid_secret_is_not_shown_in_the_error() -> None:
    with pytest.raises(ImproperlyConfigured) as error:
        Environment("X_", {"X_A": "open-sesame"}).secret("A", "0", int, "a number")
    assert "open-sesame" not in str(error.value)


def test_unknown_variables_are_found_with_the_nearest_name() -> None:
    env = Environment("X_", {"X_ROOM_LIMIT": "1", "X_ROM_LIMIT": "1", "X_ZZZ": "1", "OTHER": "1"})
    env.integer("ROOM_LIMIT", 1, 1, 1)
    assert env.unknown() == [("X_ROM_LIMIT", "X_ROOM_LIMIT"), ("X_ZZZ", None)]


# --- Derived settings


def test_production_is_the_default() -> None:
    assert read("PRODUCTION", "DEBUG", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "ALLOWED_HOSTS") == {
        "PRODUCTION": True,
        "DEBUG": False,
        "SESSION_COOKIE_SECURE": True,
        "CSRF_COOKIE_SECURE": True,
        "ALLOWED_HOSTS": [],
    }


def test_origins_default_to_the_hosts() -> None:
    found = read("CHANNELBOX_ORIGINS", "CSRF_TRUSTED_ORIGINS", CHANNELBOX_HOSTS="chat.example.org,[2001:db8::1]")
    assert found["CHANNELBOX_ORIGINS"] == ["https://chat.example.org", "https://[2001:db8::1]"]
    assert found["CSRF_TRUSTED_ORIGINS"] == found["CHANNELBOX_ORIGINS"]


def test_sqlite_transactions_begin_with_the_write_lock() -> None:
    options = read("DATABASES")["DATABASES"]["default"]["OPTIONS"]
    assert options["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in options["init_command"]
    assert "synchronous=FULL" in options["init_command"]


def test_postgresql_has_a_pool() -> None:
    url = "postgresql://alice:a%40b@db/channelbox"
    database = read("DATABASES", CHANNELBOX_DATABASE_URL=url, CHANNELBOX_DATABASE_POOL="3")["DATABASES"]["default"]
    assert database["PASSWORD"] == "a@b"
    assert database["OPTIONS"]["pool"]["max_size"] == 3


def test_every_redis_host_has_timeouts_and_a_connection_limit() -> None:
    several = read("CHANNELBOX_REDIS_HOSTS", CHANNELBOX_REDIS_URL="redis://a,redis://b")["CHANNELBOX_REDIS_HOSTS"]
    assert [host["address"] for host in several] == ["redis://a", "redis://b"]
    (sentinels,) = read("CHANNELBOX_REDIS_HOSTS", CHANNELBOX_REDIS_SENTINELS="a:1,b:2", CHANNELBOX_REDIS_PASSWORD="pw")[
        "CHANNELBOX_REDIS_HOSTS"
    ]
    assert sentinels["sentinels"] == [["a", 1], ["b", 2]]
    assert sentinels["sentinel_kwargs"]["password"] == sentinels["password"] == "pw"
    for host in [*several, sentinels]:
        assert host["socket_timeout"] > 10
        assert host["max_connections"] >= 1000


def test_the_memory_layer_replaces_the_default_layer_only() -> None:
    layers = read("CHANNEL_LAYERS", CHANNELBOX_LAYER="memory")["CHANNEL_LAYERS"]
    assert "InMemory" in layers["default"]["BACKEND"]
    assert "WorkLayer" in layers["work"]["BACKEND"]


# --- docs/settings.md


def documented() -> dict[str, tuple[str, str]]:
    rows = re.findall(r"^\| `(CHANNELBOX_\w+)` \|(.*?)\|(.*?)\| \S.*\|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len({name for name, _, _ in rows}), "a setting is documented twice"
    return {name: (default.strip(), takes.strip()) for name, default, takes in rows}


def in_words(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def known() -> dict[str, tuple[str, str]]:
    from channelbox.settings import env

    return {name: (in_words(setting.default), setting.takes) for name, setting in env.known.items()}


def test_every_setting_is_documented_and_nothing_else() -> None:
    assert sorted(documented()) == sorted(known())


@pytest.mark.parametrize("name", sorted(documented()))
def test_documented_defaults_and_formats_are_correct(name: str) -> None:
    default, takes = known()[name]
    written_default, written_takes = documented()[name]
    assert written_takes == takes
    # Defaults in parentheses depend on the machine or on other settings.
    assert written_default == default or written_default.startswith("(")
