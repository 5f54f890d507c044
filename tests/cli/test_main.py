"""The `channelbox` command as a whole: help, version, errors of settings, and refusals to start."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Run, environment

HEAVY = ["django", "redis", "uvicorn", "rich"]
COMMANDS = ["check", "doctor", "first-password", "manage", "migrate", "run", "status", "user", "web", "worker"]


def test_help_names_every_verb(run: Run) -> None:
    answer = run("--help")
    assert answer.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in answer.stdout


def test_the_manual_page_names_every_verb() -> None:
    page = Path(__file__).parents[2] / "packaging" / "debian" / "channelbox.8"
    commands = page.read_text().replace("\\-", "-").partition(".SH COMMANDS")[2].partition(".SH UNITS")[0]
    for command in COMMANDS:
        assert re.search(rf"^\.BR? (\w+ \", \" )?{command}\b", commands, re.MULTILINE), command


def test_help_loads_neither_django_nor_redis_nor_uvicorn() -> None:
    code = "import sys, channelbox.cli.main; print([m for m in HEAVY if m in sys.modules])".replace("HEAVY", str(HEAVY))
    answer = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_startup_on_sqlite_does_not_load_psycopg() -> None:
    code = "import sys, channelbox.asgi; print('psycopg' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"


def test_channelbox_prints_its_version(run: Run) -> None:
    assert run("--version").stdout.startswith("channelbox ")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_needs_no_settings(run: Run, command: str) -> None:
    answer = run(command, "--help", CHANNELBOX_ROOM_LIMIT="many" if command != "manage" else "5")
    assert answer.returncode == 0, answer.stderr


def test_an_invalid_setting_is_named_without_a_traceback(run: Run) -> None:
    answer = run("user", "list", CHANNELBOX_ROOM_LIMIT="many")
    assert answer.returncode == 1
    assert "CHANNELBOX_ROOM_LIMIT is 'many', but must be a whole number from 1 to 1000000." in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_database_without_tables_is_reported_with_the_remedy(run: Run) -> None:
    answer = run("user", "list")
    assert answer.returncode == 1
    assert "Run: channelbox migrate" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_invalid_database_url_does_not_reveal_the_password(run: Run) -> None:
    answer = run("user", "list", CHANNELBOX_DATABASE_URL="mysq://alice:open-sesame@host/db")
    assert answer.returncode == 1
    assert "CHANNELBOX_DATABASE_URL is not valid" in answer.stderr
    assert "open-sesame" not in answer.stderr + answer.stdout


def test_manage_passes_all_arguments_to_django(run: Run) -> None:
    answer = run("manage", "showmigrations", "--plan", "accounts")
    assert answer.returncode == 0
    assert "accounts.0001_initial" in answer.stdout


@pytest.mark.parametrize("command", ["web", "worker", "migrate"])
def test_production_does_not_start_with_dangerous_settings(run: Run, command: str) -> None:
    answer = run(
        command, CHANNELBOX_DEBUG="true", CHANNELBOX_HOSTS="*", CHANNELBOX_SECRET_KEY="", CHANNELBOX_LAYER="memory"
    )
    assert answer.returncode == 1
    for id in ("E001", "E002", "E005", "E007"):
        assert f"channelbox.{id}: " in answer.stderr
    assert "not started" in answer.stderr


def test_a_misspelt_setting_is_reported_but_does_not_prevent_startup(run: Run) -> None:
    answer = run("migrate", CHANNELBOX_ROM_LIMIT="5")
    assert answer.returncode == 0
    assert "There is no setting CHANNELBOX_ROM_LIMIT" in answer.stderr
    assert "Did you mean CHANNELBOX_ROOM_LIMIT?" in answer.stderr


def test_development_starts_with_insecure_settings(run: Run) -> None:
    answer = run("migrate", CHANNELBOX_MODE="development", CHANNELBOX_SECRET_KEY="", CHANNELBOX_HOSTS="")
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("command", [("worker",), ("manage", "runworker", "chat.ingest")])
def test_workers_refuse_dangerous_settings_in_production(run: Run, command: tuple[str, ...]) -> None:
    answer = run(*command, CHANNELBOX_MODE="production", CHANNELBOX_HOSTS="*")
    assert answer.returncode == 1
    assert "not started" in answer.stderr
    assert "CHANNELBOX_HOSTS" in answer.stderr
