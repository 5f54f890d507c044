"""The role's certificate tasks keep a manually installed certificate and replace those that they created."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.packaging.test_self_signed import CA_EXTENSIONS_OF_0_1_0, files, make_certificate, text, write_names

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"
PLAY = """\
- hosts: all
  connection: local
  gather_facts: false
  roles:
    - role: nginx_certificate
"""

Run = Callable[..., str]


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path: Path, tls: Path) -> Run:
    """Return a function that runs the role's certificate tasks in a temporary folder: run(channelbox_hosts=[...])."""
    role = tmp_path / "roles/nginx_certificate"
    role.mkdir(parents=True)
    for part in ("templates", "files", "defaults"):
        (role / part).symlink_to(ANSIBLE / "roles/nginx" / part)
    (role / "tasks").mkdir()
    (role / "tasks/main.yml").symlink_to(ANSIBLE / "roles/nginx/tasks/certificate.yml")
    (tmp_path / "play.yml").write_text(PLAY)
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    environment["ANSIBLE_LOCAL_TEMP"] = environment["ANSIBLE_REMOTE_TEMP"] = str(tmp_path / "temporary")
    program = str(Path(sys.executable).parent / "ansible-playbook")

    def run(**variables: object) -> str:
        given = {
            "ansible_python_interpreter": sys.executable,
            "channelbox_hosts": ["chat.example.org"],
            "_channelbox_tls": str(tls),
            "_channelbox_nginx_self_signed": str(tmp_path / "self-signed"),
            **variables,
        }
        command = [program, "-i", "box,", "-e", json.dumps(given), str(tmp_path / "play.yml")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_first_run_keeps_a_manually_installed_certificate(tls: Path, run: Run) -> None:
    make_certificate(tls, days=90, extensions=["subjectAltName=DNS:own.example.org"])
    before = files(tls)
    run()
    assert files(tls) == before


def test_a_self_signed_certificate_follows_the_host_names(tls: Path, run: Run) -> None:
    run()
    assert "DNS:chat.example.org" in text(tls)
    run(channelbox_hosts=["another.example.org"])
    assert "DNS:another.example.org" in text(tls)


def test_a_certificate_removed_from_the_inventory_is_replaced(tls: Path, run: Run, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    write_names(own, "own.example.org")
    make_certificate(own, days=90)
    run(channelbox_certificate=str(own / "cert.pem"), channelbox_certificate_key=str(own / "key.pem"))
    assert files(tls) == files(own)
    run()
    assert "DNS:chat.example.org" in text(tls)


def test_the_ca_certificate_of_version_0_1_0_is_replaced_and_reported(tls: Path, run: Run) -> None:
    make_certificate(tls, days=3650, extensions=CA_EXTENSIONS_OF_0_1_0)
    assert "was a certificate authority for ten years" in " ".join(run().split())
    assert "CA:FALSE" in text(tls)
