"""Dropping privileges to the service user. The tests run as root, as on a node; `nobody` stands for the service."""

import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from channelbox.cli.errors import CliError
from channelbox.cli.privileges import become_service, started_by_systemd

from .conftest import environment

NOBODY = pwd.getpwnam("nobody")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

SHOW = """
import json, os, pathlib, sys
from channelbox.cli.privileges import become_service
from channelbox.cli.errors import CliError
{before}
try:
    become_service(pathlib.Path(sys.argv[1]), "nobody")
except CliError as problem:
    sys.exit(str(problem))
print(json.dumps({{"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "cwd": os.getcwd(),
                  "env": dict(os.environ)}}))
"""


@pytest.fixture
def file() -> Iterator[Path]:
    """The settings file, readable by root and the service only, in a folder that everyone may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder, "channelbox.env")
        file.write_text('# settings\nCHANNELBOX_HOSTS="chat.example.org"\nCHANNELBOX_NODES=3\n')
        if os.geteuid() == 0:
            os.chown(file, 0, NOBODY.pw_gid)
        file.chmod(0o640)
        yield file


def become(file: Path, before: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SHOW.format(before=before), str(file)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        cwd="/",
    )


def test_without_a_settings_file_nothing_changes(tmp_path: Path) -> None:
    before = dict(os.environ)
    become_service(tmp_path / "none", "nobody", before)
    assert before == dict(os.environ)


@root_only
def test_root_drops_to_the_service_user_permanently(file: Path) -> None:
    seen = json.loads(become(file).stdout)
    assert seen["uid"] == [NOBODY.pw_uid] * 3
    assert seen["gid"] == [NOBODY.pw_gid] * 3
    assert 0 not in seen["groups"]
    assert seen["env"]["HOME"] == NOBODY.pw_dir


@root_only
def test_settings_come_from_the_file_and_not_from_the_shell(file: Path) -> None:
    seen = json.loads(become(file, CHANNELBOX_NODES="9", CHANNELBOX_DATABASE_URL="sqlite:////elsewhere").stdout)
    assert seen["env"]["CHANNELBOX_HOSTS"] == "chat.example.org"
    assert seen["env"]["CHANNELBOX_NODES"] == "3"
    assert "CHANNELBOX_DATABASE_URL" not in seen["env"]


@root_only
def test_in_a_unit_the_environment_overrides_the_file(file: Path) -> None:
    seen = json.loads(become(file, "os.environ['SYSTEMD_EXEC_PID'] = str(os.getpid())", CHANNELBOX_NODES="9").stdout)
    assert seen["env"]["CHANNELBOX_HOSTS"] == "chat.example.org"
    assert seen["env"]["CHANNELBOX_NODES"] == "9"


@root_only
def test_the_service_itself_reads_the_file(file: Path) -> None:
    already = f"os.setgroups([]); os.setgid({NOBODY.pw_gid}); os.setuid({NOBODY.pw_uid})"
    seen = json.loads(become(file, already).stdout)
    assert seen["env"]["CHANNELBOX_NODES"] == "3"


@root_only
def test_other_users_are_told_to_use_sudo(file: Path) -> None:
    answer = become(file, "os.setgroups([]); os.setgid(12345); os.setuid(12345)")
    assert answer.returncode == 1
    assert "Run it with sudo." in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_missing_service_user_is_an_error(file: Path) -> None:
    with pytest.raises(CliError, match="no system user 'nobody-of-that-name'"):
        become_service(file, "nobody-of-that-name", {})


def test_only_the_main_process_of_a_unit_counts_as_started_by_systemd() -> None:
    assert started_by_systemd({"SYSTEMD_EXEC_PID": str(os.getpid())})
    assert not started_by_systemd({"SYSTEMD_EXEC_PID": str(os.getppid())})
    assert not started_by_systemd({})
