"""Fixtures that run the command as administrators do: in its own process, with settings in its environment."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import channelbox

Run = Callable[..., subprocess.CompletedProcess[str]]
CHANNELBOX = (sys.executable, "-m", "channelbox.cli.main")
GOOD_SECRET = "kept-in-no-installation-0123456789-abcdefghijklmnopqrstuvwxyz"


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of this process, with these variables in place of its own settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CHANNELBOX_", "DJANGO_"))}
    return {**clean, "PYTHONPATH": str(Path(channelbox.__file__).parent.parent), **variables}


def command(arguments: Sequence[str], variables: dict[str, str], input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CHANNELBOX, *arguments],
        env=environment(**variables),
        input=input,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def settings_of_one_node(tmp_path: Path) -> dict[str, str]:
    """The settings that a production node on SQLite needs."""
    return {
        "CHANNELBOX_SECRET_KEY": GOOD_SECRET,
        "CHANNELBOX_HOSTS": "chat.example.org",
        "CHANNELBOX_DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
    }


@pytest.fixture
def run(settings_of_one_node: dict[str, str]) -> Run:
    """Run the command and return its result: run("user", "add", "alice", input="...", CHANNELBOX_X="...")."""

    def run(*arguments: str, input: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return command(arguments, {**settings_of_one_node, **variables}, input)

    return run


@pytest.fixture(scope="session")
def ready_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy, because migrating takes a second and a half."""
    file = tmp_path_factory.mktemp("ready") / "db.sqlite3"
    command(["migrate"], {"CHANNELBOX_MODE": "development", "CHANNELBOX_DATABASE_URL": f"sqlite:///{file}"})
    return file


@pytest.fixture
def migrated(run: Run, ready_database: Path, tmp_path: Path) -> Run:
    """`run` with a migrated database."""
    shutil.copy(ready_database, tmp_path / "db.sqlite3")
    return run
